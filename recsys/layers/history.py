"""History: each row's earlier behaviors, concatenated over the batch without padding."""

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class History:
    """One pair of target and history for a batch: L behaviors in total, each row's oldest first.

    vectors: (L, D). lengths: (B,) int64, behaviors of each row, at most max_length.
    target: (B, D), features in the same order. attention_vectors (L, A) and attention_target
    (B, A): the same from embeddings of their own, where attention has such.
    """

    vectors: Tensor
    lengths: Tensor
    target: Tensor
    max_length: int
    attention_vectors: Tensor | None = None
    attention_target: Tensor | None = None

    @property
    def keys(self) -> Tensor:
        """What is attended to, (L, A)."""
        return self.vectors if self.attention_vectors is None else self.attention_vectors

    @property
    def query(self) -> Tensor:
        """What attends, (B, A)."""
        return self.target if self.attention_target is None else self.attention_target

    @cached_property
    def rows(self) -> Tensor:
        """(L,) int64: the row of the batch that each behavior belongs to."""
        if torch.compiler.is_exporting():  # onnxruntime has no repeat_interleave and no ordered sum
            # one entry for each behavior; the index below tells the exporter their number
            rows = self.is_behavior.nonzero()[:, 0]
            return rows.index_select(0, torch.arange(self.vectors.shape[0], device=rows.device))
        numbers = torch.arange(self.lengths.shape[0], device=self.lengths.device)
        return torch.repeat_interleave(numbers, self.lengths, output_size=self.vectors.shape[0])

    @cached_property
    def ranks(self) -> Tensor:
        """(L,) int64: 1 for a row's most recent behavior, 2 for the one before."""
        ends = torch.cumsum(self.lengths, 0)
        return ends.index_select(0, self.rows) - torch.arange(
            self.vectors.shape[0], device=self.lengths.device
        )

    @cached_property
    def starts(self) -> Tensor:
        """(B,) int64: index of each row's first behavior."""
        return torch.cumsum(self.lengths, 0) - self.lengths

    @cached_property
    def places(self) -> Tensor:
        """(L,) int64: position of each behavior in a block (B, max_length), most recent first."""
        return self.rows * self.max_length + self.ranks - 1

    @cached_property
    def is_behavior(self) -> Tensor:
        """(B, max_length) bool: cells of a block that hold a behavior, most recent first."""
        ages = torch.arange(self.max_length, device=self.lengths.device)
        return ages < self.lengths[:, None]

    @cached_property
    def sources(self) -> Tensor:
        """(B, max_length) int64: the behavior in each cell of a block, L for an empty cell."""
        ends = torch.cumsum(self.lengths, 0)[:, None]
        ages = torch.arange(self.max_length, device=self.lengths.device)
        return torch.where(self.is_behavior, ends - 1 - ages, self.vectors.shape[0])

    def with_vectors(self, vectors: Tensor) -> "History":
        """The same behaviors with other vectors (L, D')."""
        return replace(self, vectors=vectors)
