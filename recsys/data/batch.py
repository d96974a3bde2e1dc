"""Batch: what the loader hands to a model.

Shape letters, used in the whole package: B samples in the batch, N numerical features, F sparse
features, L ids in the batch (jagged total), T positions of a padded sequence, D embedding width,
H hidden width.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from recsys.compat.torchrec import KeyedJaggedTensor
from recsys.data.occurrences import Occurrences


class Cursor(NamedTuple):
    """Where a batch stands: global batch `batch` of `epoch`. The next one to train is one later."""

    epoch: int
    batch: int


@dataclass(frozen=True)
class Batch:
    """One rank's share of one global batch.

    dense: (B, N) float32. sparse: ids by feature, keys in schema order. labels: (B,) float32.
    group_ids: (B,) int64 where the data set has a group column. global_rows: rows of the whole
    batch, all ranks together; its mean loss is the sum over ranks ÷ global_rows. occurrences: rows
    of tables that are looked up one by one, where a method or the model wants that. attention: the
    same, of the tables that only attention reads.
    """

    dense: Tensor
    sparse: KeyedJaggedTensor
    labels: Tensor
    cursor: Cursor
    global_rows: int
    group_ids: Tensor | None = None
    occurrences: Occurrences | None = None
    attention: Occurrences | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device, non_blocking: bool = False) -> "Batch":
        """The same batch on another device."""
        return replace(
            self,
            dense=self.dense.to(device, non_blocking=non_blocking),
            sparse=self.sparse.to(device, non_blocking=non_blocking),
            labels=self.labels.to(device, non_blocking=non_blocking),
            group_ids=None
            if self.group_ids is None
            else self.group_ids.to(device, non_blocking=non_blocking),
            occurrences=None
            if self.occurrences is None
            else self.occurrences.to(device, non_blocking=non_blocking),
            attention=None
            if self.attention is None
            else self.attention.to(device, non_blocking=non_blocking),
        )

    def pin_memory(self) -> "Batch":
        """The same batch in page-locked memory, for asynchronous copies to a GPU."""
        return replace(
            self,
            dense=self.dense.pin_memory(),
            sparse=self.sparse.pin_memory(),
            labels=self.labels.pin_memory(),
            group_ids=None if self.group_ids is None else self.group_ids.pin_memory(),
            occurrences=None if self.occurrences is None else self.occurrences.pin_memory(),
            attention=None if self.attention is None else self.attention.pin_memory(),
        )

    def record_stream(self, stream: torch.Stream) -> None:
        """Tells the allocator that `stream` uses the tensors (torchrec's pipelines call it)."""
        for tensor in (self.dense, self.labels, self.group_ids):
            if tensor is not None:
                tensor.record_stream(stream)
        self.sparse.record_stream(stream)
        for occurrences in (self.occurrences, self.attention):
            if occurrences is not None:
                occurrences.record_stream(stream)
