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
    """The budget and the choice that every search has.

    The budget counts what is stored for the searched features: rows, indices, projections. Of the
    candidates within it, the smallest wins whose AUC is at most `tolerance` below the best.
    """

    # largest size of the result, as a share of the full tables; either this or budget_bytes
    budget_share: float | None = Field(None, gt=0, le=1)
    budget_bytes: PositiveInt | None = None  # the same, in bytes
    tolerance: NonNegativeFloat = 0.0  # AUC that a smaller candidate may be below the best

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
    """Thresholds by gradient, columns by evolution (Lyu et al. 2022, §3 and table 7)."""

    name: Literal["optembed"] = "optembed"
    threshold_learning_rate: PositiveFloat = 1e-4  # of the thresholds
    regularizer: NonNegativeFloat = 1e-5  # α of α·Σ exp(-t), which raises the thresholds
    generations: NonNegativeInt = 30  # of the evolutionary search over columns
    mutations: PositiveInt = 10  # candidates per generation by mutation
    crossovers: PositiveInt = 10  # candidates per generation by crossover
    parents: PositiveInt = 15  # best candidates that the next ones come from
    mutation_probability: float = Field(0.1, gt=0, le=1)  # per feature


class DnisSearchConfig(BaseSearchConfig):
    """Factors α by gradient on separate rows (Cheng et al. 2020, §3.2)."""

    name: Literal["dnis"] = "dnis"
    alpha_learning_rate: PositiveFloat = 1e-2  # of the factors α
    l1: NonNegativeFloat = 1e-5  # weight of Σ|α| in the loss
    normalize: bool = True  # divide each band's gradient by its mean magnitude
    second_order: bool = False  # α steps look one step of the tables ahead (one process)
    look_ahead: PositiveFloat = 1e-2  # step of that look ahead, × the gradient of the tables
    warm_up_steps: NonNegativeInt = 0  # steps in which the factors stay 1
    # false: freeze the network after the warm-up, as the authors' code (AutoSrh)
    train_network: bool = True
    # best: the size with the best score within the budget. budget: the budget, as the paper
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
