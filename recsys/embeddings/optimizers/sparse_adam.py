"""Adam over the rows of the batch, on the plain store."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from pydantic import PositiveFloat
from torch import nn

from recsys.embeddings.optimizers.base import TableOptimizerConfig


class SparseAdamConfig(TableOptimizerConfig):
    """Adam whose moments move only for the rows of the batch (plain store)."""

    has_sparse_gradients: ClassVar[bool] = True

    name: Literal["sparse_adam"] = "sparse_adam"
    betas: tuple[float, float] = (0.9, 0.999)  # decay of the two moments, per step
    eps: PositiveFloat = 1e-8  # added to the root of the second moment

    def state_floats(self, dim: int) -> int:
        return 2 * dim

    def plain(self, parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.SparseAdam(
            parameters, lr=self.learning_rate, betas=self.betas, eps=self.eps
        )
