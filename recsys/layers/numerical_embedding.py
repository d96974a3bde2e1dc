"""Numerical features as vectors: value × a learned vector (AutoInt, Song et al. 2019, §4.2)."""

import torch
from torch import Tensor, nn


class NumericalEmbedding(nn.Module):
    """(B, N) values → (B, N·D), feature n being value_n · vector_n."""

    def __init__(self, num_features: int, embedding_dim: int) -> None:
        super().__init__()
        self.vectors = nn.Parameter(torch.empty(num_features, embedding_dim))
        nn.init.normal_(self.vectors, std=0.01)

    def forward(self, dense: Tensor) -> Tensor:
        return (dense[:, :, None] * self.vectors).flatten(1)  # (B, N·D)
