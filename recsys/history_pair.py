"""HistoryPair: which sequences hold what came before which targets."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from recsys.config.base import BaseConfig

Names = Annotated[tuple[str, ...], Field(min_length=1)]


class HistoryPair(BaseConfig):
    """A target's features and, in the same order, the sequences of what came before it."""

    target: Names
    history: Names

    @model_validator(mode="after")
    def _same_number(self) -> Self:
        if len(self.target) != len(self.history):
            raise ValueError(
                "as many features in target as in history: each history is compared with the "
                f"target at its place ({len(self.target)} and {len(self.history)} here)"
            )
        return self
