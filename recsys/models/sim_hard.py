"""SIM with its hard search: only behaviors of the target's category (Pi et al. 2020, CIKM, §3.2).

Of those the most recent are weighed as in TWIN; SIM's own second stage has several heads.
"""

from typing import Literal, Self

from pydantic import model_validator

from recsys.models.base import HistoryShape
from recsys.models.two_stage import TwoStageModelConfig


class SIMHardConfig(TwoStageModelConfig):
    """Keeps the most recent behaviors of the target's category."""

    name: Literal["sim_hard"] = "sim_hard"
    category: str  # feature of each pair's target that a behavior must share with the target

    @model_validator(mode="after")
    def _category_is_a_target(self) -> Self:
        for pair in self.pairs:
            if self.category not in pair.target:
                raise ValueError(
                    f"a category that every pair's target has; {self.category} is not one of "
                    f"{', '.join(pair.target)}"
                )
        return self

    def same_columns(self, pair: int, shape: HistoryShape) -> slice:
        place = self.pairs[pair].target.index(self.category)
        first = sum(shape.target_dims[:place])
        return slice(first, first + shape.target_dims[place])
