"""A stack of Linear → (BatchNorm) → activation → (dropout)."""

from collections.abc import Sequence

from torch import Tensor, nn

from recsys.layers.activations import ACTIVATIONS, Activation
from recsys.layers.linear import Linear, build_linear


class BatchNorm(nn.BatchNorm1d):
    """(B, dim) → (B, dim): torch's `BatchNorm1d` (Ioffe & Szegedy 2015), except for one row.

    One row has no variance. A training batch of one row, usually the last of an epoch, is
    normalized with the running averages, as in evaluation, and does not update them.
    """

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or len(input) > 1:
            return super().forward(input)
        mean, variance = self.running_mean, self.running_var
        return nn.functional.batch_norm(
            input, mean, variance, self.weight, self.bias, training=False, eps=self.eps
        )


def build_mlp(
    in_dim: int,
    hidden_dims: Sequence[int],
    *,
    activation: Activation = "relu",
    dropout: float = 0.0,
    batch_norm: bool = False,
    linear: type[Linear] = Linear,
) -> nn.Sequential:
    """Layers (B, in_dim) → (B, hidden_dims[-1]); Glorot-normal weights, zero biases."""
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
