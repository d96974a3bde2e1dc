"""L2 of whole tables for sparse updates: a row adds to the loss when it is looked up.

`l2`: a row that is looked up n times in an epoch adds λ/2·‖row‖²·N/(B·n) to the loss at each
lookup, for N train rows in batches of B (all ranks together). Over an epoch that is

    λ/2 · Σ ‖row‖² · N/B        over the rows that any train row looks up,

what a penalty λ/2·‖tables‖² beside the mean loss adds in N/B steps, while no step touches a row
that is not in its batch. It is exact whichever lookups share a row: single values, pooled
sequences and histories, of several features or several hashes. Rows that no train row looks up are
not penalized. A last batch of fewer than B rows adds for its own lookups, not for a whole step; if
N < B, B is N.

`mini_batch_l2`: DIN's mini-batch aware regularization (Zhou et al. 2018, §5.1, eq. 6) adds
λ/2·‖row‖²/n once in each batch that looks the row up, however often; over an epoch that is
λ/2 · Σ ‖row‖² · (batches that look the row up) / n.

The penalty needs each row by itself, so sequences are not pooled inside the lookup then: see
`build_embeddings`.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from recsys.data.batch import RowLookups
from recsys.embeddings.table_spec import Lookup, TableSpec


class RowL2(NamedTuple):
    """The scale of the penalty.

    scale: λ/2·N for each lookup, divided by the rows of the batch; or λ/2, once per batch.
    batch_rows: rows of a full batch; a shorter one adds its share of a full one's penalty (0: each
    batch counts in full).
    """

    scale: float
    is_once_per_batch: bool = False
    batch_rows: int = 0

    def weights(self, rows: Tensor, inverse_counts: Tensor, batch_size: int) -> Tensor:
        """Row numbers, of any shape → the factor of each squared norm."""
        weights = inverse_counts[rows]
        if not self.is_once_per_batch:
            return weights * (self.scale / max(batch_size, 1))
        _, places, times = torch.unique(rows, return_inverse=True, return_counts=True)
        return weights * self.scale / times[places]


class PooledPenalty(nn.Module):
    """The penalty of a pooled group; each of its lookups has one row for each row of the batch."""

    inverse_counts: Tensor
    first_rows: Tensor
    lookup_of_column: Tensor

    def __init__(
        self,
        tables: Sequence[TableSpec],
        lookups: Sequence[Lookup],
        row_counts: Mapping[str, Tensor],
        l2: RowL2,
    ) -> None:
        """`row_counts` are by table."""
        super().__init__()
        self.l2 = l2
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

    def forward(self, asked: RowLookups, vectors: Tensor) -> Tensor:
        """Row numbers and their vectors (B, Σd) → the penalty of this batch, ()."""
        batch_size = len(vectors)
        if batch_size == 0:
            return vectors.new_zeros(())
        rows = asked.rows.values().view(-1, batch_size).long() + self.first_rows  # (lookups, B)
        weights = self.l2.weights(rows, self.inverse_counts, batch_size)  # (lookups, B)
        squared_norms = vectors.square() @ self.lookup_of_column  # (B, lookups)
        return (weights * squared_norms.mT).sum()


class UnpooledPenalty(nn.Module):
    """The penalty of a group whose rows are looked up one by one; each table is one lookup."""

    inverse_counts: Tensor

    def __init__(
        self,
        tables: Sequence[TableSpec],
        lookups: Sequence[Lookup],
        row_counts: Mapping[str, Tensor],
        l2: RowL2,
    ) -> None:
        """`tables` and `lookups`: those of one group of the store, in its order."""
        super().__init__()
        self.l2, first_row = l2, _first_rows(tables)
        dims = {table.name: table.dim for table in tables}
        self.parts = [(look.key, dims[look.table], first_row[look.table]) for look in lookups]
        self.register_buffer("inverse_counts", _inverse(tables, row_counts), persistent=False)

    def forward(self, asked: RowLookups, vectors: Tensor) -> Tensor:
        """Row numbers and their vectors (S, Σd) → the penalty of this batch, ()."""
        penalty, start = vectors.new_zeros(()), 0
        assert asked.lengths is not None  # an unpooled group's lookups have them
        batch_size = asked.lengths.shape[1]
        for key, dim, first_row in self.parts:
            rows = asked.rows[key].values().long()
            own = vectors[: len(rows), start : start + dim]
            start += dim
            weights = self.l2.weights(rows + first_row, self.inverse_counts, batch_size)
            penalty = penalty + (weights * own.square().sum(dim=1)).sum()
        return penalty


class StorePenalty(nn.Module):
    """The penalties of all groups, by name.

    One module for all, because torchrec's pipeline traces a forward pass down to the first modules
    without shards: those inside it would be traced if they were called one by one.
    """

    def __init__(self, parts: Mapping[str, PooledPenalty | UnpooledPenalty]) -> None:
        super().__init__()
        self.parts = nn.ModuleDict(parts)

    def forward(self, asked: Mapping[str, RowLookups], raw: Mapping[str, Tensor]) -> Tensor:
        """Rows and their vectors by group → the penalty of this batch, ()."""
        penalties = [part(asked[name], raw[name]) for name, part in self.parts.items()]
        total: Tensor = sum(penalties[1:], start=penalties[0])
        return total


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
