"""The `split:` section of a recipe."""

from datetime import UTC, date, datetime
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, NonNegativeInt, model_validator

from data_pipelines.rules.tagged import named
from recsys.config.base import BaseConfig

Fractions = tuple[float, float, float]


class RandomSplit(BaseConfig):
    """`numpy.random.default_rng(seed).permutation(rows)`, cut at the cumulative fractions."""

    method: Literal["random"] = "random"
    seed: NonNegativeInt = 1
    fractions: Fractions = (0.8, 0.1, 0.1)


class StratifiedFolds(BaseConfig):
    """scikit-learn 0.19.1's shuffled stratified folds: fold 0 test, 1 valid, the rest train."""

    method: Literal["stratified_folds"] = "stratified_folds"
    seed: NonNegativeInt = 2018
    folds: Annotated[int, Field(ge=3, le=255)] = 10


class StratifiedFolds020(BaseConfig):
    """The same by the rule of scikit-learn 0.20 and 0.21, where all classes share a generator."""

    method: Literal["stratified_folds_0_20"] = "stratified_folds_0_20"
    seed: NonNegativeInt = 2018
    folds: Annotated[int, Field(ge=3, le=255)] = 10


def _seconds(value: object) -> object:
    """A date or date-time as seconds since 1970; in UTC unless it says a zone."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            value = datetime.fromisoformat(value)  # a ValueError says what is wrong
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    return value


TimeBoundary = Annotated[float, BeforeValidator(_seconds)]


class ByTime(BaseConfig):
    """Train before valid before test. Without a column the rows are already in time order."""

    method: Literal["by_time"] = "by_time"
    column: str | None = None
    # dates, or seconds since 1970 (numbers as in the column if `time.unit` is not set); UTC
    boundaries: tuple[TimeBoundary, TimeBoundary] | None = None
    fractions: Fractions = (0.8, 0.1, 0.1)

    @model_validator(mode="after")
    def _check_order(self) -> "ByTime":
        if self.boundaries and self.boundaries[0] > self.boundaries[1]:
            raise ValueError("boundaries in ascending order: where valid begins, where test begins")
        return self


class GivenFiles(BaseConfig):
    """The raw file's name (wildcards allowed) says the split."""

    method: Literal["given_files"] = "given_files"
    train: tuple[str, ...] = ("train*",)
    valid: tuple[str, ...] = ("valid*",)
    test: tuple[str, ...] = ("test*",)


class ByGroup(BaseConfig):
    """All rows of a group (by default the group column) fall into one split, by their hash."""

    method: Literal["by_group"] = "by_group"
    column: str | None = None
    seed: NonNegativeInt = 1
    fractions: Fractions = (0.8, 0.1, 0.1)


class LastItem(BaseConfig):
    """Of an event log: each user's last target is test; the one before it is valid for some users.

    `valid_users` is the share of users, chosen by their hash and the seed.
    """

    method: Literal["last_item"] = "last_item"
    seed: NonNegativeInt = 1
    valid_users: Annotated[float, Field(gt=0, le=1)] = 0.05


class LastTwoItems(BaseConfig):
    """Of an event log: each user's last target is test, the one before it valid."""

    method: Literal["last_two_items"] = "last_two_items"


SplitRule = Annotated[
    RandomSplit
    | StratifiedFolds
    | StratifiedFolds020
    | ByTime
    | GivenFiles
    | ByGroup
    | LastItem
    | LastTwoItems,
    Field(discriminator="method"),
    named("method"),
]
