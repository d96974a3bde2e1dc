"""OptEmbed after the supernet: rows by their norms, columns by evolution."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from recsys.config.search import OptEmbedSearchConfig
from recsys.embeddings.methods.base import EmbeddingKey, EmbeddingMethod
from recsys.embeddings.methods.optembed import OptEmbed
from recsys.embeddings.methods.pruned import Pruned
from recsys.embeddings.records import FLOAT_BYTES, Score
from recsys.search.candidates import Candidate, choose, rank
from recsys.search.evolution import Evolution, Genes, Sizes
from recsys.search.result import (
    Found,
    SearchedTable,
    StopIfAsked,
    allocate,
    full_bytes,
    read_state,
    searched_tables,
    stored_bytes,
    write_state,
)
from recsys.search.scoring import SPLIT, Scorer
from recsys.training.run_folder.trained import TrainedRun
from recsys.training.run_folder.warm_start_source import WarmStartSource, open_source


class Supernet(NamedTuple):
    """The trained method of one table, `pruned` to its kept rows and one column, and the reason."""

    method: OptEmbed
    pruned: EmbeddingMethod
    why: dict[str, object]


def search_optembed(
    trained: TrainedRun, search: OptEmbedSearchConfig, state: Path, stop_if_asked: StopIfAsked
) -> Found:
    """Scores on the architecture rows; every rank must call it."""
    tables = searched_tables(trained.config, trained.schema, "optembed")
    old = open_source(trained.run_dir)
    supernets = [_supernet(old, table) for table in tables]
    max_bytes = search.max_bytes(full_bytes(tables))
    scorer = Scorer(trained, only_choosing=False)
    supernet = Score(rows=SPLIT, auc=scorer.auc(), bytes=full_bytes(tables))
    has_dims = [each.method.samples_dims for each in supernets]
    seed = trained.config.train.seed
    evolution = Evolution(search, _sizes(supernets), has_dims, max_bytes, seed)
    so_far, settings = read_state(state, trained.ranks), search.model_dump(mode="json")
    if so_far is not None and so_far["search"] == settings:  # otherwise it was for another budget
        evolution.restore(so_far)
    while not evolution.is_over:
        _score_generation(evolution, trained, scorer, tables, stop_if_asked)
        write_state(state, {"search": settings, **evolution.state()}, trained.ranks)
    chosen = choose(evolution.scored.values(), search, max_bytes)
    features, methods = {}, {}
    for table, each, dims in zip(tables, supernets, chosen.genes, strict=True):
        each.method.kept_dims = dims
        methods[table.name] = each.method.finalize(_weights(old, table))
        features[table.name] = allocate(table, methods[table.name], (dims,), each.why)
    size = sum(feature.bytes for feature in features.values())
    return Found(
        features=features,
        methods=methods,
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


def _weights(old: WarmStartSource, table: SearchedTable) -> dict[str, Tensor]:
    return {table.name: old.table(table.name)}


def _supernet(old: WarmStartSource, table: SearchedTable) -> Supernet:
    """Of features that share a table the lowest threshold counts."""
    method, weights = old.methods[EmbeddingKey(table.name)], _weights(old, table)
    if not isinstance(method, OptEmbed):
        raise TypeError(f"{table.name} has the method {method.name}")
    why: dict[str, object] = {"rows": "all"}
    if method.threshold is not None:
        threshold = min(float(old.method_state(key)["threshold"]) for key in table.keys)
        method.threshold.data.fill_(threshold)
        norms = method.norms(weights)
        points = [norms.kthvalue(1 + round(q * (len(norms) - 1) / 4)).values for q in range(5)]
        quartiles = [round(float(point), 6) for point in points]
        why = {"threshold": threshold, f"l{method.norm}_norm_quartiles": quartiles}
    method.kept_dims = 1
    pruned = method.finalize(weights).build(table.name, table.cardinality, table.name)
    return Supernet(method, pruned, {**why, "dims": "the chosen candidate of the evolution"})


def _sizes(supernets: Sequence[Supernet]) -> Sizes:
    stored, beside = [], 0
    for _, pruned, _ in supernets:
        has_rows = isinstance(pruned, Pruned) and pruned.num_kept > 0
        rows = sum(spec.num_rows for spec in pruned.tables()) if has_rows else 0
        stored.append(rows)
        beside += stored_bytes(pruned) - FLOAT_BYTES * rows
    return Sizes(tuple(stored), beside, tuple(each.method.output_dim for each in supernets))
