"""L2 over whole tables for sparse updates, paid row by row as rows are looked up.

A dense penalty λ/2·‖w‖² beside the mean loss is paid N/B times an epoch (N rows, batches of B). A
row looked up n times an epoch pays λ/2·‖w_row‖²·N/(B·n) at each look-up: the same sum over an
epoch, with no step ever touching a row that is not in the batch. This is the mini-batch aware
regularisation of DIN (Zhou et al. 2018, §5.1), charged for each occurrence. Rows of multi-valued
features are pooled before anyone sees them and pay nothing.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from recsys.embeddings.base import Lookup, TableSpec
from recsys.torchrec_quietly import KeyedJaggedTensor


class RowPenalty(nn.Module):
    """Weights each lookup's squared norm by 1 ÷ (occurrences of its row in the train rows)."""

    inverse_counts: Tensor
    first_rows: Tensor
    lookup_of_column: Tensor

    def __init__(
        self,
        tables: Sequence[TableSpec],
        lookups: Sequence[Lookup],
        single_valued: Sequence[str],
        row_counts: Mapping[str, Tensor],
        scale: float,
    ) -> None:
        """`single_valued` are the lookup keys that pay; `scale` is λ/2 · N."""
        super().__init__()
        self.scale = scale
        self.keys = list(single_valued)
        self.all_pay = len(self.keys) == len(lookups)
        dims, table_of = {t.name: t.dim for t in tables}, {k.key: k.table for k in lookups}
        first_row, start = {}, 0
        for table in tables:
            first_row[table.name] = start
            start += table.num_rows
        counts = torch.cat([row_counts[table.name].float() for table in tables])
        columns = torch.cat(
            [
                torch.full((dims[k.table],), self.keys.index(k.key) if k.key in self.keys else -1)
                for k in lookups
            ]
        )
        one_hot = (columns[:, None] == torch.arange(len(self.keys))).float()  # (Σd, keys)
        self.register_buffer("inverse_counts", 1.0 / counts.clamp(min=1.0), persistent=False)
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
        weights = self.inverse_counts[rows] * (self.scale / batch_size)  # (keys, B)
        squared_norms = vectors.square() @ self.lookup_of_column  # (B, keys)
        return (weights * squared_norms.mT).sum()
