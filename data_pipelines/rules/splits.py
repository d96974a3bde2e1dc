"""The `split:` section of a recipe."""

from datetime import UTC, date, datetime
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, NonNegativeInt, model_validator

from recsys.config.base import BaseConfig

Fractions = tuple[float, float, float]


class RandomSplit(BaseConfig):
    """`numpy.random.default_rng(seed).permutation(rows)`, cut at the cumulative fractions."""

    method: Literal["random"] = "random"
    seed: NonNegativeInt = 1  # of the permutation
    fractions: Fractions = (0.8, 0.1, 0.1)  # shares of train, valid and test


class StratifiedFolds(BaseConfig):
    """The shuffled stratified folds of scikit-learn 0.19.1: fold 0 test, 1 valid, others train."""

    method: Literal["stratified_folds"] = "stratified_folds"
    seed: NonNegativeInt = 2018  # of the shuffle
    folds: Annotated[int, Field(ge=3, le=255)] = 10  # number of folds


class StratifiedFolds020(BaseConfig):
    """The same as in scikit-learn 0.20 and 0.21, where all classes share one generator."""

    method: Literal["stratified_folds_0_20"] = "stratified_folds_0_20"
    seed: NonNegativeInt = 2018  # of the shuffle
    folds: Annotated[int, Field(ge=3, le=255)] = 10  # number of folds


def _seconds(value: object) -> object:
    """A date or datetime as seconds since 1970, in UTC unless it has a time zone."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            value = datetime.fromisoformat(value)  # its ValueError is the message
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    return value


TimeBoundary = Annotated[float, BeforeValidator(_seconds)]


class ByTime(BaseConfig):
    """Train rows before valid rows before test rows, ordered by a column or as in the files."""

    method: Literal["by_time"] = "by_time"
    column: str | None = None  # the time column; null: the rows are in time order already
    # where valid and test begin: dates, or seconds since 1970, in UTC
    boundaries: tuple[TimeBoundary, TimeBoundary] | None = None
    fractions: Fractions = (0.8, 0.1, 0.1)  # the shares of the splits if there are no boundaries

    @model_validator(mode="after")
    def _check_order(self) -> "ByTime":
        if self.boundaries and self.boundaries[0] > self.boundaries[1]:
            raise ValueError("boundaries in ascending order: the start of valid, the start of test")
        return self


class GivenFiles(BaseConfig):
    """The split of each raw file is given by its name (wildcards are allowed)."""

    method: Literal["given_files"] = "given_files"
    train: tuple[str, ...] = ("train*",)  # file names
    valid: tuple[str, ...] = ("valid*",)  # file names
    test: tuple[str, ...] = ("test*",)  # file names


class ByGroup(BaseConfig):
    """All rows of a group are in one split, chosen by the group's hash."""

    method: Literal["by_group"] = "by_group"
    column: str | None = None  # the column of the groups; null: the recipe's `group`
    seed: NonNegativeInt = 1  # of the hash
    fractions: Fractions = (0.8, 0.1, 0.1)  # shares of train, valid and test


class LastItem(BaseConfig):
    """Event logs: each user's last target is in test, of some users the one before it in valid."""

    method: Literal["last_item"] = "last_item"
    seed: NonNegativeInt = 1  # of the hash
    # the share of these users, who are chosen by their hash and the seed
    valid_users: Annotated[float, Field(gt=0, le=1)] = 0.05


class LastTwoItems(BaseConfig):
    """Event logs: each user's last target is in test, the one before it in valid."""

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
]
