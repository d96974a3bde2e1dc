"""Adam over whole tables on the plain store; over the rows of the batch in fbgemm on a GPU."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from pydantic import PositiveFloat
from torch import nn

from recsys.embeddings.optimizers.base import FusedOptimizer, TableOptimizerConfig
from recsys.errors import RecsysError

FUSED_BETAS = (0.9, 0.999)  # torchrec passes no others on


class AdamConfig(TableOptimizerConfig):
    """Adam. On the plain store over whole tables at every step, as published CTR numbers need."""

    touches_whole_tables: ClassVar[bool] = True
    # a replicated table's Adam moves every row at every step
    changed_by_sharding: ClassVar[frozenset[str]] = frozenset({"data_parallel"})

    name: Literal["adam"] = "adam"
    betas: tuple[float, float] = FUSED_BETAS  # decay of the two moments, per step
    eps: PositiveFloat = 1e-8  # added to the root of the second moment

    def state_floats(self, dim: int) -> int:
        return 2 * dim

    def plain(self, parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.Adam(
            parameters,
            lr=self.learning_rate,
            betas=self.betas,
            eps=self.eps,
            weight_decay=self.l2,  # torch's coupled decay is the gradient of λ/2·‖tables‖²
        )

    def fused(self, device: torch.device) -> FusedOptimizer | None:
        if device.type != "cuda":
            return None
        if self.betas != FUSED_BETAS:
            raise RecsysError(
                "the fused Adam has fixed betas",
                where="train.embedding_optimizer.betas",
                expected=FUSED_BETAS,
                got=self.betas,
                fix="drop the key, or set embeddings.store: plain",
            )
        return FusedOptimizer(torch.optim.Adam, {"lr": self.learning_rate, "eps": self.eps})
