"""L2 over whole tables for sparse updates, paid row by row as rows are looked up.

A dense penalty λ/2·‖w‖² beside the mean loss is paid N/B times an epoch (N rows, batches of B). A
row looked up n times an epoch pays λ/2·‖w_row‖²·N/(B·n) at each look-up: the same sum over an
epoch, with no step ever touching a row that is not in the batch. DIN's mini-batch aware
regularisation (Zhou et al. 2018, §5.1, eq. 6) charges a row λ/2·‖w_row‖²/n once in each batch that
has it. Rows of multi-valued features that are pooled before anyone sees them pay nothing.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from recsys.data.occurrences import Occurrences
from recsys.embeddings.base import Lookup, TableSpec
from recsys.embeddings.stores import occurrence_key
from recsys.torchrec_quietly import KeyedJaggedTensor


class Charge(NamedTuple):
    """What rows pay.

    scale: λ/2·N, of which a batch of B rows pays 1/B at each occurrence; or λ/2, once a batch.
    """

    scale: float
    is_once_per_batch: bool = False

    def weights(self, rows: Tensor, inverse_counts: Tensor, batch_size: int) -> Tensor:
        """Row numbers, of any shape → what multiplies the squared norm of each."""
        weights = inverse_counts[rows]
        if not self.is_once_per_batch:
            return weights * (self.scale / max(batch_size, 1))
        _, places, times = torch.unique(rows, return_inverse=True, return_counts=True)
        return weights * self.scale / times[places]


class RowPenalty(nn.Module):
    """What the rows of single-valued lookups pay."""

    inverse_counts: Tensor
    first_rows: Tensor
    lookup_of_column: Tensor

    def __init__(
        self,
        tables: Sequence[TableSpec],
        lookups: Sequence[Lookup],
        single_valued: Sequence[str],
        row_counts: Mapping[str, Tensor],
        charge: Charge,
    ) -> None:
        """`single_valued` are the lookup keys that pay; `row_counts` are by table."""
        super().__init__()
        self.charge = charge
        self.keys = list(single_valued)
        self.all_pay = len(self.keys) == len(lookups)
        dims, table_of = {t.name: t.dim for t in tables}, {k.key: k.table for k in lookups}
        first_row = _first_rows(tables)
        columns = torch.cat(
            [
                torch.full((dims[k.table],), self.keys.index(k.key) if k.key in self.keys else -1)
                for k in lookups
            ]
        )
        one_hot = (columns[:, None] == torch.arange(len(self.keys))).float()  # (Σd, keys)
        self.register_buffer("inverse_counts", _inverse(tables, row_counts), persistent=False)
        self.register_buffer(
            "first_rows",
            torch.tensor([first_row[table_of[key]] for key in self.keys])[:, None],
            persistent=False,
        )
        self.register_buffer("lookup_of_column", one_hot, persistent=False)

    def forward(self, physical: KeyedJaggedTensor, vectors: Tensor) -> Tensor:
        """Row numbers and their vectors (B, Σd) → the penalty of this batch, ()."""
        batch_size = len(vectors)
        if batch_size == 0 or not self.keys:
            return vectors.new_zeros(())
        values = (
            physical.values()
            if self.all_pay
            else torch.cat([physical[key].values() for key in self.keys])
        )
        rows = values.view(-1, batch_size).long() + self.first_rows  # (keys, B)
        weights = self.charge.weights(rows, self.inverse_counts, batch_size)  # (keys, B)
        squared_norms = vectors.square() @ self.lookup_of_column  # (B, keys)
        return (weights * squared_norms.mT).sum()


class OccurrencePenalty(nn.Module):
    """What rows that are looked up one by one pay."""

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
