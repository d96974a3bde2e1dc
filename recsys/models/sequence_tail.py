"""The end of sequence models: an MLP over pooled histories and all other fields → a logit."""

from abc import ABC
from collections.abc import Sequence

import torch
from pydantic import Field as PydanticField
from pydantic import PositiveInt
from torch import Tensor, nn

from recsys.layers.activations import Activation
from recsys.layers.linear import build_linear
from recsys.layers.mlp import BatchNorm, build_mlp
from recsys.models.base import Field, HistoryShape, SequenceModelConfig


class TailedModelConfig(SequenceModelConfig, ABC):
    """A sequence model that ends in an MLP over [fields, pooled histories, numerical features]."""

    hidden_dims: tuple[PositiveInt, ...] = (200, 80)  # widths of the MLP
    activation: Activation = "dice"  # dice: PReLU with a slope that depends on the batch
    dropout: float = PydanticField(0.0, ge=0, lt=1)  # share of hidden units set to 0
    batch_norm: bool = False  # in each layer of the MLP (not on several CPU processes)
    # in front of the MLP, as the published codes have (not on several CPU processes)
    input_batch_norm: bool = False
    # input each pooled history times the target, too (DARE; DIN as published in code)
    target_aware: bool = False

    def build_tail(
        self,
        fields: Sequence[Field],
        num_dense: int,
        pooled_dims: Sequence[int],
        hidden_dims: Sequence[int] | None = None,
    ) -> "Tail":
        """The tail for pooled histories of these widths; `hidden_dims` instead of the config's."""
        in_dim = sum(field.dim for field in fields) + num_dense
        in_dim += sum(pooled_dims) * (2 if self.target_aware else 1)
        widths = self.hidden_dims if hidden_dims is None else hidden_dims
        mlp = build_mlp(
            in_dim,
            widths,
            activation=self.activation,
            dropout=self.dropout,
            batch_norm=self.batch_norm,
        ).append(build_linear(widths[-1] if widths else in_dim, 1))
        if self.input_batch_norm:
            mlp.insert(0, BatchNorm(in_dim))
        return Tail(mlp, self.target_aware)


class Tail(nn.Module):
    """logit = MLP([fields, for each pair its pooled history and (pooled · target), numericals])."""

    def __init__(self, mlp: nn.Sequential, is_target_aware: bool) -> None:
        super().__init__()
        self.mlp, self.is_target_aware = mlp, is_target_aware

    def forward(
        self, vectors: Tensor, dense: Tensor, pooled: Sequence[Tensor], targets: Sequence[Tensor]
    ) -> Tensor:
        """(B, ΣD), (B, N) and for each pair (B, D), twice → logits (B,)."""
        parts = [vectors]
        for history, target in zip(pooled, targets, strict=True):
            parts += [history, history * target] if self.is_target_aware else [history]
        return self.mlp(torch.cat([*parts, dense], dim=1)).squeeze(1)


def pooled_dims(histories: Sequence[HistoryShape]) -> list[int]:
    """Widths of histories that are pooled without positions."""
    return [shape.dim for shape in histories]
