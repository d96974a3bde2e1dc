"""Occurrences: ids whose rows are wanted one by one, not summed by row of the batch."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from recsys.compat.torchrec import KeyedJaggedTensor


@dataclass(frozen=True)
class Occurrences:
    """Row numbers by table, each a bag of one; a table with fewer than the others has empty bags.

    lengths: (features, B), how many ids each feature has in each row of the batch, for the features
    that are looked up this way. counts: their sums, and max_length: the largest of them; known
    without a GPU.
    """

    rows: KeyedJaggedTensor
    lengths: Tensor
    counts: tuple[int, ...]
    max_length: int

    def to(self, device: torch.device, non_blocking: bool = False) -> "Occurrences":
        """The same on another device."""
        return replace(
            self,
            rows=self.rows.to(device, non_blocking=non_blocking),
            lengths=self.lengths.to(device, non_blocking=non_blocking),
        )

    def with_counted_keys(self) -> "Occurrences":
        """The same, having counted each key's ids while they are on the CPU."""
        return replace(self, rows=self.rows.sync())

    def pin_memory(self) -> "Occurrences":
        """The same in page-locked memory."""
        return replace(self, rows=self.rows.pin_memory(), lengths=self.lengths.pin_memory())

    def record_stream(self, stream: torch.Stream) -> None:
        """Tells the allocator that `stream` uses the tensors."""
        self.rows.record_stream(stream)
        self.lengths.record_stream(stream)
