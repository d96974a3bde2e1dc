"""Dice: an activation that adapts to the distribution of its inputs (DIN, Zhou et al. 2018)."""

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

Moments = tuple[Tensor, Tensor, Tensor]


class Dice(nn.Module):
    """x · (p + (1 − p) · α), p = sigmoid((x − E[x]) / √(Var[x] + eps)), by column (§5.2).

    E and Var are statistics of the batch in training (over all ranks, if there are several), and
    moving averages in evaluation. α starts at 0. The moving variance is unbiased.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, dim: int, *, eps: float = 1e-9, momentum: float = 0.01) -> None:
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.alpha = nn.Parameter(torch.zeros(dim))
        self.register_buffer("running_mean", torch.zeros(dim))
        self.register_buffer("running_var", torch.ones(dim))

    def forward(self, values: Tensor, counts: Tensor | None = None) -> Tensor:
        """(N, dim) → (N, dim); with `counts` (N,) row n counts counts[n] times in E and Var."""
        gate = torch.sigmoid(self._normalize(values, counts))
        return torch.addcmul(self.alpha, gate, 1.0 - self.alpha) * values

    def _normalize(self, values: Tensor, counts: Tensor | None) -> Tensor:
        if not self.training:
            return (values - self.running_mean) * torch.rsqrt(self.running_var + self.eps)
        if counts is None and len(values) > 1 and _num_ranks() == 1:  # this kernel is 2 × faster
            averages = (self.running_mean, self.running_var)
            return nn.functional.batch_norm(
                values, *averages, training=True, momentum=self.momentum, eps=self.eps
            )
        mean, variance, count = _moments(values, counts)
        with torch.no_grad():
            share = self.momentum * (count > 0)
            unbiased = variance * (count / (count - 1).clamp(min=1))
            self.running_mean.lerp_(mean.detach(), share)
            self.running_var.lerp_(unbiased, share)
        return (values - mean) * torch.rsqrt(variance + self.eps)


def _moments(values: Tensor, counts: Tensor | None) -> Moments:
    """Mean (dim,), biased variance (dim,) and count () of the values (N, dim) of all ranks."""
    if counts is None:
        counts = values.new_ones(len(values))
    count = _sum_over_ranks(counts.sum())
    divisor = count.clamp(min=1)
    mean = _sum_over_ranks(counts @ values) / divisor
    variance = _sum_over_ranks(counts @ (values - mean).square()) / divisor
    return mean, variance, count


def _num_ranks() -> int:
    is_distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_world_size() if is_distributed else 1


def _sum_over_ranks(values: Tensor) -> Tensor:
    if _num_ranks() == 1:
        return values
    return _SumOverRanks.apply(values)  # type: ignore[no-untyped-call]  # torch.autograd is untyped


class _SumOverRanks(torch.autograd.Function):
    """Sum with a gradient: each rank's part gets the sum of all ranks' gradients."""

    @staticmethod
    def forward(ctx: FunctionCtx, values: Tensor) -> Tensor:
        return _all_reduced(values)

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> Tensor:
        return _all_reduced(gradient)


def _all_reduced(values: Tensor) -> Tensor:
    total = values.clone(memory_format=torch.contiguous_format)
    torch.distributed.all_reduce(total)
    return total
