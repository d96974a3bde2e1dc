"""A stack of Linear → (BatchNorm) → ReLU → (dropout)."""

from collections.abc import Sequence

from torch import nn


def build_mlp(
    in_dim: int, hidden_dims: Sequence[int], *, dropout: float = 0.0, batch_norm: bool = False
) -> nn.Sequential:
    """(B, in_dim) → (B, hidden_dims[-1]); Glorot-normal weights, zero biases."""
    layers: list[nn.Module] = []
    for width in hidden_dims:
        layers.append(build_linear(in_dim, width))
        if batch_norm:
            layers.append(nn.BatchNorm1d(width))
        layers.append(nn.ReLU())
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
