"""A stack of Linear → (BatchNorm) → activation → (dropout)."""

from collections.abc import Sequence
from typing import Literal

from torch import nn

from recsys.layers.batch_norm import BatchNorm
from recsys.layers.dice import Dice
from recsys.layers.linear import Linear, build_linear

Activation = Literal["relu", "prelu", "dice", "sigmoid"]


def build_mlp(
    in_dim: int,
    hidden_dims: Sequence[int],
    *,
    activation: Activation = "relu",
    dropout: float = 0.0,
    batch_norm: bool = False,
    linear: type[Linear] = Linear,
) -> nn.Sequential:
    """(B, in_dim) → (B, hidden_dims[-1]); Glorot-normal weights, zero biases."""
    layers: list[nn.Module] = []
    for width in hidden_dims:
        layers.append(build_linear(in_dim, width, kind=linear))
        if batch_norm:
            layers.append(BatchNorm(width))
        layers.append(build_activation(activation, width))
        if dropout > 0:
            layers.append(nn.Dropout(dropout))
        in_dim = width
    return nn.Sequential(*layers)


def build_activation(name: Activation, dim: int) -> nn.Module:
    """(N, dim) → (N, dim); PReLU and Dice learn a slope for each column."""
    match name:
        case "relu":
            return nn.ReLU()
        case "prelu":
            return nn.PReLU(dim)
        case "dice":
            return Dice(dim)
        case "sigmoid":
            return nn.Sigmoid()
