"""Blocks: ranges of ids that store the same columns, in a compact table of the kept ids.

Ids without a row read the last row of the table, which is always zero: `without_zero_rows` passes
no gradient on to it, and no table optimizer moves a zero row whose gradient is zero.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from recsys.embeddings.id_mapping.id_bitmap import smallest_dtype
from recsys.embeddings.table_spec import RowsOf, TableSpec
from recsys.lookup_spec import Band, Remap, Step


class Block(NamedTuple):
    """Ids from `first` on: which are kept, (n,) bool, and the columns that they store."""

    first: int
    is_kept: Tensor
    dims: tuple[int, ...]


class BlockRows:
    """The row of each id of a block; all others share the last row, which is zero.

    row_of_id: (n,) the row of each id, None if the kept ids are a range.
    """

    def __init__(self, block: Block, cardinality: int) -> None:
        kept = block.is_kept
        self.first, self.num_kept = block.first, int(kept.sum())
        self.has_none = self.num_kept < cardinality
        is_range = bool(kept[: self.num_kept].all())
        self.length = self.num_kept if is_range else len(kept)
        numbers = torch.where(kept, kept.cumsum(0) - 1, self.num_kept)
        self.row_of_id = None if is_range else numbers.to(smallest_dtype(self.num_kept))

    def of(self, ids: Tensor) -> Tensor:
        """Ids (L,) → rows (L,)."""
        if not self.has_none:
            return ids
        local = ids.long() - self.first
        inside = (local >= 0) & (local < self.length)
        if self.row_of_id is not None:
            numbers = self.row_of_id.to(ids.device)
            local = numbers[local.clamp(0, self.length - 1)].long()
        return torch.where(inside, local, self.num_kept)

    def steps(self, name: str) -> tuple[Step, ...]:
        """The same in the primitives of an export; `name`: that of `row_of_id`."""
        if not self.has_none:
            return ()
        band = Band(first=self.first, end=self.first + self.length)
        if self.row_of_id is None:
            return (band,)
        return (band, Remap(rows=name))

    def table(self, name: str, source: TableSpec, block: Block) -> TableSpec:
        """The compact table: it starts as these rows and columns of `source`."""
        if not self.has_none and len(block.dims) == source.dim:
            return source
        ids = block.is_kept.nonzero().squeeze(1) + block.first
        rows = F.pad(ids, (0, int(self.has_none)), value=-1)
        init = RowsOf(source, rows, torch.tensor(block.dims))
        return TableSpec(name, len(rows), len(block.dims), init)


def without_zero_rows(vectors: Tensor) -> Tensor:
    """The same vectors (L, d), of which those that are all zero pass no gradient on."""
    return vectors * (vectors != 0).any(dim=1, keepdim=True)
