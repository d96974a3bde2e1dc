"""The `search:` section: how `recsys search` chooses rows and columns. Others ignore it."""

from typing import Annotated, Literal, Self

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from recsys.config.base import BaseConfig


class BaseSearchConfig(BaseConfig):
    """What every search has: a size that the result must not exceed, and how it chooses.

    The budget counts what is stored for the searched features: rows, indices, projections. Of the
    candidates within it, the smallest wins whose AUC is at most `tolerance` below the best.
    """

    budget_share: float | None = Field(None, gt=0, le=1)  # of the full tables' bytes
    budget_bytes: PositiveInt | None = None
    tolerance: NonNegativeFloat = 0.0

    @model_validator(mode="after")
    def _one_budget(self) -> Self:
        if self.budget_share is not None and self.budget_bytes is not None:
            raise ValueError("either search.budget_share or search.budget_bytes, and not both")
        return self

    def max_bytes(self, full_bytes: int) -> int:
        """The budget in bytes; without one, the size of the full tables and their indices."""
        if self.budget_bytes is not None:
            return self.budget_bytes
        return int(full_bytes * (self.budget_share or 2.0))


class OptEmbedSearchConfig(BaseSearchConfig):
    """Thresholds by gradient, columns by evolution (Lyu et al. 2022, §3 and table 7).

    `regularizer` is the α of α·Σ exp(-t), which pushes thresholds up. Each generation scores
    `mutations` and `crossovers` of the best `parents` found so far.
    """

    name: Literal["optembed"] = "optembed"
    threshold_learning_rate: PositiveFloat = 1e-4
    regularizer: NonNegativeFloat = 1e-5
    generations: NonNegativeInt = 30
    mutations: PositiveInt = 10
    crossovers: PositiveInt = 10
    parents: PositiveInt = 15
    mutation_probability: float = Field(0.1, gt=0, le=1)


class DnisSearchConfig(BaseSearchConfig):
    """Factors α by gradient on rows of their own (Cheng et al. 2020, §3.2).

    second_order: the α step looks one step of the tables ahead, at `look_ahead` × their gradient
    (one process). normalize: each band's gradient is divided by its mean magnitude. `l1` weighs
    Σ|α|. For `warm_up_steps` the factors stay 1. train_network: false keeps the network as it is
    after the warm-up, as the authors' code does (AutoSrh), so that only embeddings and factors are
    trained. prune_to: the budget itself, as the paper has it, or the size that scores best of those
    within it.
    """

    name: Literal["dnis"] = "dnis"
    alpha_learning_rate: PositiveFloat = 1e-2
    l1: NonNegativeFloat = 1e-5
    normalize: bool = True
    second_order: bool = False
    look_ahead: PositiveFloat = 1e-2
    warm_up_steps: NonNegativeInt = 0
    train_network: bool = True
    prune_to: Literal["best", "budget"] = "best"

    @model_validator(mode="after")
    def _network_is_trained_first(self) -> Self:
        if not self.train_network and self.warm_up_steps == 0:
            raise ValueError(
                "train_network: false needs warm_up_steps above 0: otherwise the network would "
                "never be trained"
            )
        return self


SearchConfig = Annotated[OptEmbedSearchConfig | DnisSearchConfig, Field(discriminator="name")]
