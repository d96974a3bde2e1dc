"""Multi-head self-attention over features (AutoInt, Song et al. 2019, §4.3, equations 5–8)."""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recsys.layers.linear import build_linear

LayerNormPlace = Literal["none", "before_relu", "after_relu"]
# position → epsilon of the implementation that has it there
LAYER_NORM_EPS = {
    "before_relu": 1e-5,  # FuxiCTR (torch's default)
    "after_relu": 1e-8,  # the authors' TensorFlow code
}


class InteractingLayer(nn.Module):
    """(B, F, in_dim) → (B, F, attention_dim): ReLU(concat of heads + residual).

    The paper has plain inner products, no bias, scaling, dropout or normalization, and a residual
    projection. Each keyword is a deviation from it (see `AutoIntConfig`). `layer_norm` is after the
    ReLU in the authors' code, with an epsilon of 1e-8, and before it in FuxiCTR, with 1e-5.
    """

    def __init__(  # noqa: PLR0913  one keyword for each deviation from the paper
        self,
        in_dim: int,
        attention_dim: int,
        num_heads: int,
        *,
        projection_bias: bool,
        projection_relu: bool,
        scale_scores: bool,
        attention_dropout: float,
        layer_norm: LayerNormPlace,
        residual: Literal["projection", "identity_if_equal", "none"],
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.head_dim = attention_dim // num_heads
        self.projection_relu = projection_relu
        self.score_scale = 1.0 / math.sqrt(self.head_dim) if scale_scores else 1.0
        self.dropout = attention_dropout
        self.query_key_value = nn.ModuleList(
            build_linear(in_dim, attention_dim, bias=projection_bias) for _ in range(3)
        )
        self.has_residual = residual != "none"
        is_identity = residual == "identity_if_equal" and in_dim == attention_dim
        self.residual = (
            build_linear(in_dim, attention_dim, bias=projection_bias)
            if self.has_residual and not is_identity
            else None
        )
        self.layer_norm_place = layer_norm
        self.layer_norm = (
            nn.LayerNorm(attention_dim, eps=LAYER_NORM_EPS[layer_norm])
            if layer_norm != "none"
            else None
        )

    def forward(self, fields: Tensor) -> Tensor:
        """(B, F, in_dim) → (B, F, attention_dim)."""
        query, key, value = (self._heads(layer(fields)) for layer in self.query_key_value)
        weights = torch.softmax((query @ key.mT) * self.score_scale, dim=-1)  # (B, heads, F, F)
        if self.dropout > 0:
            weights = F.dropout(weights, self.dropout, self.training)
        attended = (weights @ value).transpose(1, 2).flatten(2)  # (B, F, attention_dim)
        if self.has_residual:
            attended = attended + self._residual(fields)
        if self.layer_norm is None:
            return F.relu(attended)
        if self.layer_norm_place == "before_relu":
            return F.relu(self.layer_norm(attended))
        return self.layer_norm(F.relu(attended))

    def _heads(self, projected: Tensor) -> Tensor:
        if self.projection_relu:
            projected = F.relu(projected)
        return torch.unflatten(projected, 2, (self.num_heads, self.head_dim)).transpose(1, 2)

    def _residual(self, fields: Tensor) -> Tensor:
        if self.residual is None:
            return fields
        projected = self.residual(fields)
        return F.relu(projected) if self.projection_relu else projected
