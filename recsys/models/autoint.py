"""AutoInt: self-attention between features (Song et al. 2019, CIKM, §4); AutoInt+ adds an MLP.

The default is the paper's graph. The authors' code deviates from it in five ways, each an option:
`projection_bias`, `projection_relu`, `scale_scores`, `attention_dropout`, `layer_norm: after_relu`
(epsilon 1e-8). FuxiCTR has `layer_norm: before_relu` (epsilon 1e-5).
"""

from collections.abc import Sequence
from typing import Literal, Self

import torch
from pydantic import Field as PydanticField
from pydantic import PositiveInt, model_validator
from torch import Tensor, nn

from recsys.errors import RecsysError
from recsys.layers.linear import build_linear
from recsys.layers.mlp import build_mlp
from recsys.layers.self_attention import InteractingLayer, LayerNormPlace
from recsys.models.base import EqualWidthModelConfig, Field


class AutoIntConfig(EqualWidthModelConfig):
    """Self-attention between features, and the MLP of AutoInt+."""

    name: Literal["autoint"] = "autoint"
    num_layers: PositiveInt = 3  # layers of self-attention
    num_heads: PositiveInt = 2  # attention heads per layer
    # output width of a layer, all heads together (the paper's d'·H)
    attention_dim: PositiveInt = 64
    hidden_dims: tuple[PositiveInt, ...] = ()  # widths of AutoInt+'s MLP; []: none
    input_dropout: float = PydanticField(0.0, ge=0, lt=1)  # share of inputs set to 0
    dropout: float = PydanticField(0.0, ge=0, lt=1)  # share of MLP units set to 0
    batch_norm: bool = False  # in each layer of the MLP
    # projection: a matrix. identity_if_equal: none if the widths agree. none: no residual
    residual: Literal["projection", "identity_if_equal", "none"] = "projection"
    projection_bias: bool = False  # bias in the projections to queries, keys, values
    projection_relu: bool = False  # ReLU after these projections
    scale_scores: bool = False  # divide scores by √(width of a head)
    attention_dropout: float = PydanticField(0.0, ge=0, lt=1)  # share of weights set to 0
    layer_norm: LayerNormPlace = "none"  # before_relu: FuxiCTR. after_relu: the authors

    @model_validator(mode="after")
    def _heads_divide_attention_dim(self) -> Self:
        if self.attention_dim % self.num_heads:
            raise ValueError(
                f"attention_dim {self.attention_dim} is not a multiple of num_heads "
                f"{self.num_heads}"
            )
        return self

    def build(self, fields: Sequence[Field], num_dense: int) -> "AutoInt":
        if num_dense:
            raise RecsysError(
                "autoint needs every feature as a vector",
                where="embeddings.numerical",
                expected="vector",
                got=f"{num_dense} features with raw",
                fix="set embeddings.numerical=vector, also in embeddings.features",
            )
        embedding_dim = self.common_dim(fields)
        attention = [
            InteractingLayer(
                embedding_dim if layer == 0 else self.attention_dim,
                self.attention_dim,
                self.num_heads,
                projection_bias=self.projection_bias,
                projection_relu=self.projection_relu,
                scale_scores=self.scale_scores,
                attention_dropout=self.attention_dropout,
                layer_norm=self.layer_norm,
                residual=self.residual,
            )
            for layer in range(self.num_layers)
        ]
        head = build_linear(len(fields) * self.attention_dim, 1)
        mlp = None
        if self.hidden_dims:
            mlp = build_mlp(
                len(fields) * embedding_dim,
                self.hidden_dims,
                dropout=self.dropout,
                batch_norm=self.batch_norm,
            ).append(build_linear(self.hidden_dims[-1], 1))
        return AutoInt(embedding_dim, nn.Sequential(*attention), head, mlp, self.input_dropout)


class AutoInt(nn.Module):
    """Interacting layers over (B, F, D), a linear head, and for AutoInt+ the logit of an MLP."""

    def __init__(
        self,
        embedding_dim: int,
        attention: nn.Sequential,
        head: nn.Linear,
        mlp: nn.Sequential | None,
        input_dropout: float,
    ) -> None:
        super().__init__()
        self.embedding_dim = embedding_dim
        self.attention, self.head, self.mlp = attention, head, mlp
        self.input_dropout = nn.Dropout(input_dropout)

    def forward(self, vectors: Tensor, dense: Tensor) -> Tensor:
        """(B, F·D), (B, 0) → logits (B,)."""
        vectors = self.input_dropout(vectors)
        fields = torch.unflatten(vectors, 1, (-1, self.embedding_dim))  # (B, F, D)
        logits = self.head(self.attention(fields).flatten(1)).squeeze(1)
        if self.mlp is None:
            return logits
        return logits + self.mlp(vectors).squeeze(1)
