"""L2 over whole tables for sparse updates: each row is charged when it is looked up.

`l2`: a row that is looked up n times in an epoch adds λ/2·‖row‖²·N/(B·n) to the loss at each
lookup, for N train rows in batches of B (all ranks together). Over an epoch that is

    λ/2 · Σ ‖row‖² · N/B        over the rows that any train row looks up,

what a penalty λ/2·‖tables‖² beside the mean loss adds in N/B steps, while no step touches a row
that is not in its batch. It is exact for whatever lookups share a row: single values, pooled
sequences and histories, of several features or several hashes. Rows that no train row looks up are
never charged. A last batch of fewer than B rows is charged for its lookups, not for a whole step;
where N < B, B is N.

`mini_batch_l2`: DIN's mini-batch aware regularization (Zhou et al. 2018, §5.1, eq. 6) adds
λ/2·‖row‖²/n once in each batch that looks the row up, however often; over an epoch that is
λ/2 · Σ ‖row‖² · (batches that look the row up) / n.

Every lookup needs its own row, so a sequence is not pooled inside the lookup where rows are
charged: see `FeatureEmbeddings`.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from recsys.compat.torchrec import KeyedJaggedTensor
from recsys.data.occurrences import Occurrences
from recsys.embeddings.methods.base import Lookup, TableSpec
from recsys.embeddings.tables.build import occurrence_key


class Charge(NamedTuple):
    """What a lookup is charged.

    scale: λ/2·N for each lookup, divided by the rows of the batch; or λ/2, once a batch.
    batch_rows: rows of a full batch, which a shorter one is charged a share of (0: no such rule).
    """

    scale: float
    is_once_per_batch: bool = False
    batch_rows: int = 0

    def weights(self, rows: Tensor, inverse_counts: Tensor, batch_size: int) -> Tensor:
        """Row numbers, of any shape → what multiplies the squared norm of each."""
        weights = inverse_counts[rows]
        if not self.is_once_per_batch:
            return weights * (self.scale / max(batch_size, 1))
        _, places, times = torch.unique(rows, return_inverse=True, return_counts=True)
        return weights * self.scale / times[places]


class RowPenalty(nn.Module):
    """The penalty of lookups of single values."""

    inverse_counts: Tensor
    first_rows: Tensor
    lookup_of_column: Tensor

    def __init__(
        self,
        tables: Sequence[TableSpec],
        lookups: Sequence[Lookup],
        row_counts: Mapping[str, Tensor],
        charge: Charge,
    ) -> None:
        """`row_counts` are by table."""
        super().__init__()
        self.charge = charge
        dims, first_row = {t.name: t.dim for t in tables}, _first_rows(tables)
        columns = torch.cat([torch.full((dims[k.table],), i) for i, k in enumerate(lookups)])
        one_hot = (columns[:, None] == torch.arange(len(lookups))).float()  # (Σd, lookups)
        self.register_buffer("inverse_counts", _inverse(tables, row_counts), persistent=False)
        self.register_buffer(
            "first_rows",
            torch.tensor([first_row[look.table] for look in lookups])[:, None],
            persistent=False,
        )
        self.register_buffer("lookup_of_column", one_hot, persistent=False)

    def forward(self, physical: KeyedJaggedTensor, vectors: Tensor) -> Tensor:
        """Row numbers, one for each lookup and sample, and their vectors (B, Σd) → penalty ()."""
        batch_size = len(vectors)
        if batch_size == 0:
            return vectors.new_zeros(())
        rows = physical.values().view(-1, batch_size).long() + self.first_rows  # (lookups, B)
        weights = self.charge.weights(rows, self.inverse_counts, batch_size)  # (lookups, B)
        squared_norms = vectors.square() @ self.lookup_of_column  # (B, lookups)
        return (weights * squared_norms.mT).sum()


class OccurrencePenalty(nn.Module):
    """The penalty of rows that are looked up one by one."""

    inverse_counts: Tensor

    def __init__(
        self, tables: Sequence[TableSpec], row_counts: Mapping[str, Tensor], charge: Charge
    ) -> None:
        """`tables`: those of one group of the store, in its order."""
        super().__init__()
        self.charge, self.tables = charge, tuple(tables)
        self.first_row = _first_rows(tables)
        self.register_buffer("inverse_counts", _inverse(tables, row_counts), persistent=False)

    def forward(self, occurrences: Occurrences, found: Tensor) -> Tensor:
        """Row numbers and their vectors (S, Σd) → the penalty of this batch, ()."""
        penalty, start = found.new_zeros(()), 0
        batch_size = occurrences.lengths.shape[1]
        for table in self.tables:
            rows = occurrences.rows[occurrence_key(table.name)].values().long()
            vectors = found[: len(rows), start : start + table.dim]
            start += table.dim
            weights = self.charge.weights(
                rows + self.first_row[table.name], self.inverse_counts, batch_size
            )
            penalty = penalty + (weights * vectors.square().sum(dim=1)).sum()
        return penalty


def _first_rows(tables: Sequence[TableSpec]) -> dict[str, int]:
    """Where each table's rows begin, with all tables end to end."""
    first_row, start = {}, 0
    for table in tables:
        first_row[table.name] = start
        start += table.num_rows
    return first_row


def _inverse(tables: Sequence[TableSpec], row_counts: Mapping[str, Tensor]) -> Tensor:
    counts = torch.cat([row_counts[table.name].float() for table in tables])
    return 1.0 / counts.clamp(min=1.0)
