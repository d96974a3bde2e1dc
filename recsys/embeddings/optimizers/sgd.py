"""Plain gradient steps on the rows of the batch."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn

from recsys.embeddings.optimizers.base import FusedOptimizer, TableOptimizerConfig


class SgdConfig(TableOptimizerConfig):
    """Plain gradient steps on the rows of the batch."""

    name: Literal["sgd"] = "sgd"

    def state_floats(self, dim: int) -> int:
        return 0

    def plain(self, parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, lr=self.learning_rate)

    def fused(self, device: torch.device) -> FusedOptimizer:
        return FusedOptimizer(torch.optim.SGD, {"lr": self.learning_rate})
