"""Mean pooling: all behaviors have equal weight, for any target. The baseline of attention."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from recsys.layers.history import History
from recsys.layers.jagged import expand, pool
from recsys.models.base import Field, HistoryShape
from recsys.models.sequence_tail import Tail, TailedModelConfig, pooled_dims


class MeanPoolingConfig(TailedModelConfig):
    """Every behavior has the same weight."""

    name: Literal["mean_pooling"] = "mean_pooling"

    def build(
        self, fields: Sequence[Field], num_dense: int, histories: Sequence[HistoryShape]
    ) -> "MeanPooling":
        return MeanPooling(self.build_tail(fields, num_dense, pooled_dims(histories)))


class MeanPooling(nn.Module):
    """The mean of each history, then the tail."""

    def __init__(self, tail: Tail) -> None:
        super().__init__()
        self.tail = tail

    def forward(self, vectors: Tensor, dense: Tensor, *histories: History) -> Tensor:
        """(B, ΣD), (B, N), histories → logits (B,)."""
        pooled = [pool(h.vectors, h) / h.lengths.clamp(min=1)[:, None] for h in histories]
        return self.tail(vectors, dense, pooled, [h.target for h in histories])

    def attention_weights(self, history: History, pair: int = 0) -> Tensor:
        """(L,): 1 ÷ length of the behavior's history."""
        return expand(
            torch.reciprocal(history.lengths.to(history.vectors.dtype))[:, None], history
        )[:, 0]
