"""A stack of Linear → (BatchNorm) → activation → (dropout)."""

from collections.abc import Sequence
from typing import Literal

from torch import nn

from recsys.layers.dice import Dice

Activation = Literal["relu", "prelu", "dice", "sigmoid"]


def build_mlp(
    in_dim: int,
    hidden_dims: Sequence[int],
    *,
    activation: Activation = "relu",
    dropout: float = 0.0,
    batch_norm: bool = False,
) -> nn.Sequential:
    """(B, in_dim) → (B, hidden_dims[-1]); Glorot-normal weights, zero biases."""
    layers: list[nn.Module] = []
    for width in hidden_dims:
        layers.append(build_linear(in_dim, width))
        if batch_norm:
            layers.append(nn.BatchNorm1d(width))
        layers.append(build_activation(activation, width))
        if dropout > 0:
            layers.append(nn.Dropout(dropout))
        in_dim = width
    return nn.Sequential(*layers)


def build_linear(in_dim: int, out_dim: int, *, bias: bool = True) -> nn.Linear:
    """A Linear with Glorot-normal weights and a zero bias."""
    linear = nn.Linear(in_dim, out_dim, bias=bias)
    nn.init.xavier_normal_(linear.weight)
    if bias:
        nn.init.zeros_(linear.bias)
    return linear


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
