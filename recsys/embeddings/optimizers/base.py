"""TableOptimizerConfig: all that the toolkit knows of an optimizer of tables."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, NamedTuple, Self

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, model_validator
from torch import nn

from recsys.config.base import BaseConfig


class FusedOptimizer(NamedTuple):
    """How torchrec and fbgemm call an optimizer: a class of torch or torchrec, its arguments."""

    optimizer_type: type[torch.optim.Optimizer]
    arguments: dict[str, object]


class TableOptimizerConfig(BaseConfig, ABC):
    """What every table optimizer has; see docs/add_to_a_list.md.

    Adam on the plain store applies `l2` to whole tables at every step. All others penalize
    the looked-up rows, see `tables/regularization.py`, where both penalties are defined exactly.
    """

    # A step of the plain form changes rows that are not in the batch.
    touches_whole_tables: ClassVar[bool] = False
    # The plain form takes gradients of the looked-up rows only.
    has_sparse_gradients: ClassVar[bool] = False
    # Plain rows are padded as fbgemm pads them, because the update depends on the row's width.
    pads_plain_rows: ClassVar[bool] = False
    # Ways of sharding that would make another optimizer of it: used only if a placement asks.
    changed_by_sharding: ClassVar[frozenset[str]] = frozenset()

    name: str
    learning_rate: PositiveFloat  # before plateaus
    l2: NonNegativeFloat = Field(
        default=0.0, description="λ of the penalty λ/2·‖tables‖² beside the mean log loss"
    )
    mini_batch_l2: NonNegativeFloat = Field(
        default=0.0,
        description="λ of DIN's mini-batch aware regularization (Zhou et al. 2018, §5.1, eq. 6): "
        "λ/2·‖row‖² ÷ (its lookups in an epoch), once in each batch that has the row",
    )

    @model_validator(mode="after")
    def _one_l2(self) -> Self:
        if self.l2 > 0 and self.mini_batch_l2 > 0:
            raise ValueError("either l2 or mini_batch_l2, and not both")
        return self

    @abstractmethod
    def state_floats(self, dim: int) -> int:
        """Floats of optimizer state for a row of `dim` values."""

    @abstractmethod
    def plain(self, parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
        """The optimizer of the plain store's tables."""

    def fused(self, device: torch.device) -> FusedOptimizer | None:
        """The same as fbgemm's kernels have it on this kind of device; None if they do not."""
        return None

    def has_row_l2(self, store: str) -> bool:
        """True if an L2 penalty is added for each lookup, not by decay of whole tables."""
        is_decay = store == "plain" and self.touches_whole_tables
        return self.mini_batch_l2 > 0 or (self.l2 > 0 and not is_decay)
