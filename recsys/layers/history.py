"""History: what came before each row's target, end to end, nothing padded to the longest."""

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class History:
    """One pair of target and history for a batch; behaviours oldest first, L of them in all.

    vectors: (L, D). lengths: (B,) int64, behaviours of each row, none of them above max_length.
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
        """(L,) int64: the row of the batch that each behaviour belongs to."""
        if torch.compiler.is_exporting():  # onnxruntime cannot repeat rows, nor add in order
            rows = self.is_behaviour.nonzero()[:, 0]  # as many as there are behaviours; say so:
            return rows.index_select(0, torch.arange(self.vectors.shape[0], device=rows.device))
        numbers = torch.arange(self.lengths.shape[0], device=self.lengths.device)
        return torch.repeat_interleave(numbers, self.lengths, output_size=self.vectors.shape[0])

    @cached_property
    def ranks(self) -> Tensor:
        """(L,) int64: 1 for a row's most recent behaviour, 2 for the one before."""
        ends = torch.cumsum(self.lengths, 0)
        return ends.index_select(0, self.rows) - torch.arange(
            self.vectors.shape[0], device=self.lengths.device
        )

    @cached_property
    def starts(self) -> Tensor:
        """(B,) int64: where each row's behaviours begin."""
        return torch.cumsum(self.lengths, 0) - self.lengths

    @cached_property
    def places(self) -> Tensor:
        """(L,) int64: where behaviours go in a block (B, max_length), most recent first."""
        return self.rows * self.max_length + self.ranks - 1

    @cached_property
    def is_behaviour(self) -> Tensor:
        """(B, max_length) bool: places of a block that hold a behaviour, most recent first."""
        ages = torch.arange(self.max_length, device=self.lengths.device)
        return ages < self.lengths[:, None]

    @cached_property
    def sources(self) -> Tensor:
        """(B, max_length) int64: the behaviour at each place of a block, L where there is none."""
        ends = torch.cumsum(self.lengths, 0)[:, None]
        ages = torch.arange(self.max_length, device=self.lengths.device)
        return torch.where(self.is_behaviour, ends - 1 - ages, self.vectors.shape[0])

    def with_vectors(self, vectors: Tensor) -> "History":
        """The same behaviours with other vectors (L, D')."""
        return replace(self, vectors=vectors)
