"""Logistic regression: one weight per id and per numerical, and a bias.

The floor: a model that does not beat it shows a broken pipeline.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from recsys.errors import RecsysError
from recsys.models.base import BaseModelConfig, Field


class LogisticRegressionConfig(BaseModelConfig):
    """Needs `embeddings.default.embedding_dim: 1`: the embedding of an id is its weight."""

    name: Literal["logistic_regression"] = "logistic_regression"

    def build(self, fields: Sequence[Field], num_dense: int) -> "LogisticRegression":
        wide = next((field for field in fields if field.dim != 1), None)
        if wide is not None:
            raise RecsysError(
                "logistic_regression has one weight per id",
                where="embeddings.default.embedding_dim",
                expected=1,
                got=f"{wide.name} has {wide.dim}",
                fix="set embeddings.default.embedding_dim=1",
            )
        return LogisticRegression(num_dense)


class LogisticRegression(nn.Module):
    """logit = Σ weights of the ids + Σ weight · value + bias."""

    def __init__(self, num_dense: int) -> None:
        super().__init__()
        self.dense_weights = nn.Parameter(torch.zeros(num_dense))
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, vectors: Tensor, dense: Tensor) -> Tensor:
        """(B, F), (B, N) → logits (B,)."""
        return vectors.sum(dim=1) + dense @ self.dense_weights + self.bias
