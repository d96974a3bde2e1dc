"""DNIS after the supernet: cells of E·α below one global magnitude are dropped.

A cell is a group of columns of a frequency band; its magnitude is α times the mean |E| of its
entries. Whole cells are dropped, so dense tables remain. No index is stored but the bounds of the
bands; factors are not stored either, since training from the allocation does not use them.
"""

import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from recsys.config.search import DnisSearchConfig
from recsys.embeddings.methods.base import EmbeddingKey, Finalized
from recsys.embeddings.methods.dnis import Dnis
from recsys.embeddings.methods.pruned import PrunedConfig
from recsys.embeddings.records import FLOAT_BYTES, Score
from recsys.search.candidates import Candidate, choose, largest, rank
from recsys.search.result import (
    Found,
    SearchedTable,
    StopIfAsked,
    allocate,
    full_bytes,
    read_state,
    searched_tables,
    write_state,
)
from recsys.search.scoring import SPLIT, Scorer
from recsys.training.run_folder.trained import TrainedRun
from recsys.training.run_folder.warm_start_source import WarmStartSource, open_source

ROWS = f"{SPLIT}, batches with an odd number"
# sizes at which the supernet is scored, as shares of the full tables' bytes
SHARES = (1.0, 0.75, 0.5, 0.35, 0.25, 0.15, 0.1, 0.05, 0.025, 0.01)


class Cells(NamedTuple):
    """One table's cells, (bands, K): magnitude and bytes of each; |α|."""

    method: Dnis
    magnitudes: Tensor
    bytes: Tensor
    alpha: Tensor


def search_dnis(
    trained: TrainedRun, search: DnisSearchConfig, state: Path, stop_if_asked: StopIfAsked
) -> Found:
    """Scores on the rows that no factor was trained on; every rank must call it."""
    tables = searched_tables(trained.config, trained.schema, "dnis")
    old = open_source(trained.run_dir)
    cells = [_cells(old, table) for table in tables]
    max_bytes = search.max_bytes(full_bytes(tables))
    scorer = Scorer(trained, only_choosing=True)
    supernet = Score(rows=ROWS, auc=scorer.auc(), bytes=full_bytes(tables))
    pruning = Pruning(trained, tables, cells, scorer)
    so_far = read_state(state, trained.ranks) or {"scored": {}}
    for share in sorted({min(max_bytes / full_bytes(tables), 1.0), *SHARES}, reverse=True):
        stop_if_asked(len(so_far["scored"]))
        count = pruning.count_within(share * full_bytes(tables))
        if str(count) not in so_far["scored"]:
            auc = so_far["scored"][str(count)] = pruning.auc(count)
            write_state(state, so_far, trained.ranks)
            if trained.ranks.is_first:
                size = pruning.bytes_of(count)
                print(f"AUC {auc:.5f} at {size:,} bytes", file=sys.stderr, flush=True)  # noqa: T201  progress is its purpose
    candidates = [
        Candidate((int(count),), pruning.bytes_of(int(count)), auc)
        for count, auc in so_far["scored"].items()
    ]
    if search.prune_to == "budget":
        chosen = largest(candidates, max_bytes)
    else:
        chosen = choose(candidates, search, max_bytes)
    methods, why = pruning.finalize(*chosen.genes), pruning.why(*chosen.genes)
    features = {
        t.name: allocate(t, methods[t.name], _dims(methods[t.name]), why[t.name]) for t in tables
    }
    size = sum(feature.bytes for feature in features.values())
    chosen_score = Score(rows=ROWS, auc=chosen.auc, bytes=size)
    return Found(features, methods, max_bytes, supernet, chosen_score, rank(candidates))


class Pruning:
    """Keeps the cells of largest magnitude over all tables."""

    def __init__(
        self,
        trained: TrainedRun,
        tables: Sequence[SearchedTable],
        cells: Sequence[Cells],
        scorer: Scorer,
    ) -> None:
        self.trained, self.tables, self.cells, self.scorer = trained, tables, cells, scorer
        self.magnitudes = torch.cat([c.magnitudes.flatten() for c in cells])
        self.order = self.magnitudes.sort(descending=True, stable=True).indices
        sizes = torch.cat([c.bytes.flatten() for c in cells])
        # a feature without cells still stores one number
        self.sums = sizes[self.order].cumsum(0) + FLOAT_BYTES * len(tables)

    def count_within(self, max_bytes: float) -> int:
        return int((self.sums <= max_bytes).sum())

    def bytes_of(self, count: int) -> int:
        return int(self.sums[count - 1]) if count else FLOAT_BYTES * len(self.tables)

    def auc(self, count: int) -> float:
        """The AUC of the supernet without the dropped cells."""
        for table, cells, is_kept in zip(self.tables, self.cells, self._kept(count), strict=True):
            for key in table.keys:
                method = self.trained.model.embeddings.methods[key]
                if isinstance(method, Dnis):
                    method.alpha.data.copy_(cells.alpha * is_kept)
        return self.scorer.auc()

    def finalize(self, count: int) -> dict[str, Finalized]:
        """Each table's method with the kept cells alone."""
        for cells, is_kept in zip(self.cells, self._kept(count), strict=True):
            cells.method.kept_cells = is_kept
        return {t.name: c.method.finalize({}) for t, c in zip(self.tables, self.cells, strict=True)}

    def why(self, count: int) -> dict[str, dict[str, Any]]:
        threshold = float(self.magnitudes[self.order[count - 1]]) if count else float("inf")
        kept = zip(self.tables, self.cells, self._kept(count), strict=True)
        return {table.name: _why(table, c, is_kept, threshold) for table, c, is_kept in kept}

    def _kept(self, count: int) -> list[Tensor]:
        """(bands, K) bool of each table."""
        is_kept = torch.zeros(len(self.order), dtype=torch.bool)
        is_kept[self.order[:count]] = True
        parts = torch.split(is_kept, [c.magnitudes.numel() for c in self.cells])
        return [p.view_as(c.magnitudes) for p, c in zip(parts, self.cells, strict=True)]


def _cells(old: WarmStartSource, table: SearchedTable) -> Cells:
    """Cells of features that share a table: the largest factor counts."""
    method = old.methods[EmbeddingKey(table.name)]
    if not isinstance(method, Dnis):
        raise TypeError(f"{table.name} has the method {method.name}")
    states = [old.method_state(key) for key in table.keys]
    alpha = torch.stack([state["alpha"] for state in states]).amax(0)
    means, sizes = [], []
    for spec, (first, end) in zip(method.tables(), pairwise(method.bounds), strict=True):
        columns = old.table(spec.name)[: end - first].abs().mean(0)  # (D,)
        means.append(columns.view(alpha.shape[1], -1).mean(1))
        sizes.append(spec.num_rows * method.columns_per_group * FLOAT_BYTES)
    magnitudes = alpha * torch.stack(means)
    return Cells(method, magnitudes, torch.tensor(sizes)[:, None].expand_as(alpha), alpha)


def _why(table: SearchedTable, cells: Cells, is_kept: Tensor, threshold: float) -> dict[str, Any]:
    bands = zip(pairwise(cells.method.bounds), cells.alpha, cells.magnitudes, is_kept, strict=True)
    return {
        "magnitude_threshold": threshold,
        "bands": [
            {
                "first_id": first,
                "end_id": end,
                "mean_alpha": round(float(alpha.mean()), 4),
                "largest_magnitude": round(float(magnitude.max()), 6),
                "kept_columns": int(kept.sum()) * (table.method.embedding_dim // len(kept)),
            }
            for (first, end), alpha, magnitude, kept in bands
        ],
    }


def _dims(found: Finalized) -> tuple[int, ...]:
    bands = found.config.bands if isinstance(found.config, PrunedConfig) else ()
    return tuple(len(band.dims) for band in bands)
