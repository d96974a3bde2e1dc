"""OptEmbed after the supernet: rows by their norms, columns by evolution."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from recsys.config.search import OptEmbedSearchConfig
from recsys.embeddings.allocation import FeatureAllocation
from recsys.embeddings.methods.optembed import OptEmbed, OptEmbedConfig
from recsys.embeddings.methods.pruned import PrunedConfig
from recsys.embeddings.records import FLOAT_BYTES, Score
from recsys.search.architecture_rows import SPLIT
from recsys.search.candidates import Candidate, choose, rank
from recsys.search.evolution import Evolution, Genes, Sizes
from recsys.search.result import (
    Found,
    SearchedTable,
    StopIfAsked,
    allocate,
    full_bytes,
    kept_choice,
    searched_tables,
    stored_bytes,
)
from recsys.search.scoring import Scorer
from recsys.search.state_file import read_state, write_state
from recsys.training.run_folder.trained import TrainedRun
from recsys.training.run_folder.warm_start_source import WarmStartSource, open_source

CHUNK_ROWS = 1 << 20


class KeptRows(NamedTuple):
    """The rows of one table whose norm is above the threshold, (V,) bool, and the reason."""

    is_kept: Tensor
    why: dict[str, object]


def search_optembed(
    trained: TrainedRun, search: OptEmbedSearchConfig, state: Path, stop_if_asked: StopIfAsked
) -> Found:
    """Scores on the architecture rows; every rank must call it."""
    tables = searched_tables(trained.config, trained.schema, "optembed")
    old = open_source(trained.run_dir)
    rows = [_kept_rows(old, table) for table in tables]
    max_bytes = search.max_bytes(full_bytes(tables))
    scorer = Scorer(trained, only_choosing=False)
    supernet = Score(rows=SPLIT, auc=scorer.auc(), bytes=full_bytes(tables))
    has_dims = [_config_of(table).variant != "rows" for table in tables]
    seed = trained.config.train.seed
    evolution = Evolution(search, _sizes(tables, rows), has_dims, max_bytes, seed)
    so_far, settings = read_state(state, trained.ranks), search.model_dump(mode="json")
    if so_far is not None and so_far["search"] == settings:  # otherwise it was for another budget
        evolution.restore(so_far)
    while not evolution.is_over:
        _score_generation(evolution, trained, scorer, tables, stop_if_asked)
        write_state(state, {"search": settings, **evolution.state()}, trained.ranks)
    chosen = choose(evolution.scored.values(), search, max_bytes)
    features = {
        table.name: _allocated(table, kept, dims)
        for table, kept, dims in zip(tables, rows, chosen.genes, strict=True)
    }
    size = sum(feature.bytes for feature in features.values())
    return Found(
        features=features,
        kept={table.name: kept.is_kept for table, kept in zip(tables, rows, strict=True)},
        max_bytes=max_bytes,
        supernet=supernet,
        chosen=Score(rows=SPLIT, auc=chosen.auc, bytes=size),
        candidates=rank(evolution.scored.values()),
    )


def _score_generation(
    evolution: Evolution,
    trained: TrainedRun,
    scorer: Scorer,
    tables: Sequence[SearchedTable],
    stop_if_asked: StopIfAsked,
) -> None:
    began, scored = time.monotonic(), []
    for genes in evolution.propose():
        stop_if_asked(evolution.generation)
        _use_dims(trained, tables, genes)
        scored.append(Candidate(genes, evolution.sizes.bytes_of(genes), scorer.auc()))
    evolution.record(scored)
    if trained.ranks.is_first:
        _tell(evolution, len(scored), time.monotonic() - began)


def _tell(evolution: Evolution, count: int, seconds: float) -> None:
    best = rank(evolution.scored.values())[0]
    left = (evolution.search.generations + 1 - evolution.generation) * seconds
    print(  # noqa: T201  progress is its purpose
        f"generation {evolution.generation} of {evolution.search.generations + 1}  "
        f"best AUC {best.auc:.5f} at {best.bytes:,} bytes  "
        f"{count / max(seconds, 1e-9):.1f} candidates/s  {left:,.0f} s left",
        file=sys.stderr,
        flush=True,
    )


def _use_dims(trained: TrainedRun, tables: Sequence[SearchedTable], genes: Genes) -> None:
    for table, dims in zip(tables, genes, strict=True):
        for key in table.keys:
            method = trained.model.embeddings.methods[key]
            if isinstance(method, OptEmbed):
                method.kept_dims = dims


def _config_of(table: SearchedTable) -> OptEmbedConfig:
    if not isinstance(table.method, OptEmbedConfig):
        raise TypeError(f"{table.name} has the method {type(table.method).__name__}")
    return table.method


def _kept_rows(old: WarmStartSource, table: SearchedTable) -> KeptRows:
    """Rows of features that share a table: the lowest threshold counts."""
    config = _config_of(table)
    if config.variant == "dims":
        return KeptRows(torch.ones(table.cardinality, dtype=torch.bool), {"rows": "all"})
    threshold = min(float(old.method_state(key)["threshold"]) for key in table.keys)
    chunks = torch.split(old.table(table.name), CHUNK_ROWS)
    norms = torch.cat([torch.linalg.vector_norm(c, ord=config.norm, dim=1) for c in chunks])
    points = [norms.kthvalue(1 + round(q * (len(norms) - 1) / 4)).values for q in range(5)]
    why = {
        "threshold": threshold,
        f"l{config.norm}_norm_quartiles": [round(float(point), 6) for point in points],
    }
    return KeptRows(norms > threshold, why)


def _sizes(tables: Sequence[SearchedTable], rows: Sequence[KeptRows]) -> Sizes:
    stored, beside = [], 0
    for table, kept in zip(tables, rows, strict=True):
        method = _pruned(table, kept, 1).build(table.name, table.cardinality, table.name)
        lines = sum(spec.num_rows for spec in method.tables())
        is_dead = not bool(kept.is_kept.any())
        stored.append(0 if is_dead else lines)
        beside += stored_bytes(method) - FLOAT_BYTES * (0 if is_dead else lines)
    return Sizes(tuple(stored), beside, tuple(t.method.embedding_dim for t in tables))


def _pruned(table: SearchedTable, kept: KeptRows, dims: int) -> PrunedConfig:
    return PrunedConfig(
        embedding_dim=table.method.embedding_dim,
        init=table.method.init,
        kept=kept_choice(kept.is_kept),
        dims=dims,
    )


def _allocated(table: SearchedTable, kept: KeptRows, dims: int) -> FeatureAllocation:
    why = {**kept.why, "dims": "the chosen candidate of the evolution"}
    return allocate(table, _pruned(table, kept, dims), (int(kept.is_kept.sum()), (dims,)), why)
