"""A stack of Linear → (BatchNorm) → activation → (dropout)."""

from collections.abc import Sequence

from torch import nn

from recsys.layers.activations import ACTIVATIONS, Activation
from recsys.layers.batch_norm import BatchNorm
from recsys.layers.linear import Linear, build_linear


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
        layers.append(ACTIVATIONS[activation](width))
        if dropout > 0:
            layers.append(nn.Dropout(dropout))
        in_dim = width
    return nn.Sequential(*layers)
