"""The optimisers that tables can have, and where each can run."""

from collections.abc import Callable
from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeFloat, PositiveFloat, model_validator

from recsys.config.base import BaseConfig


class TableOptimizerConfig(BaseConfig):
    """What all table optimisers share.

    `l2` is the λ of λ/2·‖tables‖² beside the mean log loss. Adam on the plain store applies it to
    whole tables at every step; all others charge a row at each of its lookups, in proportion to
    1 ÷ (its lookups in an epoch), so that the penalty of an epoch is the same for all rows that
    train rows look up. `mini_batch_l2` is the λ of DIN's mini-batch aware regularization (Zhou et
    al. 2018, §5.1, eq. 6): λ/2·‖row‖² ÷ (its lookups in an epoch), once in each batch that has it.
    Both are defined exactly in `row_penalty.py`.
    """

    name: str
    learning_rate: PositiveFloat
    l2: NonNegativeFloat = 0.0
    mini_batch_l2: NonNegativeFloat = 0.0

    @model_validator(mode="after")
    def _one_l2(self) -> Self:
        if self.l2 > 0 and self.mini_batch_l2 > 0:
            raise ValueError("either l2 or mini_batch_l2, and not both")
        return self

    @property
    def touches_whole_tables(self) -> bool:
        """True when a step changes rows that are not in the batch."""
        return False

    def charges_lookups(self, store: str) -> bool:
        """True when the penalty is added lookup by lookup, not by decay of whole tables."""
        is_decay = store == "plain" and self.touches_whole_tables
        return self.mini_batch_l2 > 0 or (self.l2 > 0 and not is_decay)


class RowwiseAdagradConfig(TableOptimizerConfig):
    """Adagrad with one accumulator per row, over the rows of the batch only."""

    name: Literal["rowwise_adagrad"] = "rowwise_adagrad"
    eps: PositiveFloat = 1e-8


class SgdConfig(TableOptimizerConfig):
    """Plain gradient steps on the rows of the batch."""

    name: Literal["sgd"] = "sgd"


class AdamConfig(TableOptimizerConfig):
    """Adam. On the plain store over whole tables at every step, as published CTR numbers need."""

    name: Literal["adam"] = "adam"
    betas: tuple[float, float] = (0.9, 0.999)
    eps: PositiveFloat = 1e-8

    @property
    def touches_whole_tables(self) -> bool:
        return True


class SparseAdamConfig(TableOptimizerConfig):
    """Adam whose moments move only for the rows of the batch (plain store)."""

    name: Literal["sparse_adam"] = "sparse_adam"
    betas: tuple[float, float] = (0.9, 0.999)
    eps: PositiveFloat = 1e-8


TableOptimizer = Annotated[
    RowwiseAdagradConfig | SgdConfig | AdamConfig | SparseAdamConfig, Field(discriminator="name")
]

STATE_FLOATS_PER_ROW: dict[str, Callable[[int], int]] = {
    # optimiser → floats of state for a row of `dim` values
    "rowwise_adagrad": lambda dim: 1,
    "sgd": lambda dim: 0,
    "adam": lambda dim: 2 * dim,
    "sparse_adam": lambda dim: 2 * dim,
}
