"""HistoryPair: which sequences hold what came before which targets."""

from collections.abc import Sequence
from typing import Annotated, Self

from pydantic import Field, model_validator

from recsys.config.base import BaseConfig

Names = Annotated[tuple[str, ...], Field(min_length=1)]


class HistoryPair(BaseConfig):
    """Features of the target, and the histories that are compared with them."""

    target: Names  # features of the target, compared side by side
    history: Names  # the sequences of the same features before the target, in the same order

    @model_validator(mode="after")
    def _same_number(self) -> Self:
        if len(self.target) != len(self.history):
            raise ValueError(
                "as many features in target as in history: each history is compared with the "
                f"target at its place ({len(self.target)} and {len(self.history)} here)"
            )
        return self


def history_features(pairs: Sequence[HistoryPair]) -> list[str]:
    """The sequences of all pairs, each once: a model reads them id by id."""
    return list(dict.fromkeys(name for pair in pairs for name in pair.history))
