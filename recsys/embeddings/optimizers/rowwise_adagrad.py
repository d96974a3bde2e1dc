"""Row-wise Adagrad: one accumulator per row, over the rows of the batch only."""

from collections.abc import Iterable, Sequence
from typing import ClassVar, Literal

import torch
from pydantic import PositiveFloat
from torch import nn

from recsys.embeddings.optimizers.base import FusedOptimizer, TableOptimizerConfig


class RowwiseAdagradConfig(TableOptimizerConfig):
    """Adagrad with one accumulator per row, over the rows of the batch only."""

    # its mean of squares runs over the padded row
    pads_plain_rows: ClassVar[bool] = True
    # each part of a row would have an accumulator of its own
    changed_by_sharding: ClassVar[frozenset[str]] = frozenset({"column_wise"})

    name: Literal["rowwise_adagrad"] = "rowwise_adagrad"
    eps: PositiveFloat = 1e-8  # added to the root of the accumulator

    def state_floats(self, dim: int) -> int:
        return 1

    def plain(self, parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
        return RowwiseAdagrad(parameters, lr=self.learning_rate, eps=self.eps)

    def fused(self, device: torch.device) -> FusedOptimizer:
        from recsys.compat.torchrec import RowWiseAdagrad  # not needed by the plain store

        return FusedOptimizer(RowWiseAdagrad, {"lr": self.learning_rate, "eps": self.eps})


class RowwiseAdagrad(torch.optim.Optimizer):
    """Adagrad with one accumulator per row: the mean square of the row's gradients.

    Bit-equal to torchrec's class of this name, so that torch alone is enough. Rows without a
    gradient stay as they are.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, eps: float) -> None:
        super().__init__(parameters, {"lr": lr, "eps": eps})
        for group in self.param_groups:
            for weight in group["params"]:
                self.state[weight]["step"] = torch.tensor(0.0)
                self.state[weight]["sum"] = weight.detach().new_zeros(len(weight), 1)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # no closure
        """One step over all rows."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                state["step"] += 1
                state["sum"] += weight.grad.pow(2).mean(dim=1, keepdim=True)
                divisor = state["sum"].sqrt().add_(group["eps"])
                weight.addcdiv_(weight.grad, divisor, value=-group["lr"])
