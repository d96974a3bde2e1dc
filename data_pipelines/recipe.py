"""The recipe of a dataset: all rules by which raw files become a dataset. Built-in ones too."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import NonNegativeInt, PositiveInt, model_validator

from data_pipelines.rules.columns import (
    Categorical,
    EncodingRule,
    FeatureOptions,
    Label,
    Numerical,
    SequenceColumns,
    TimeColumns,
    VocabularyRule,
    short_form,
)
from data_pipelines.rules.files import FileFormat, ItemTable, Join
from data_pipelines.rules.splits import (
    ByGroup,
    ByTime,
    LastItem,
    LastTwoItems,
    RandomSplit,
    SplitRule,
)
from recsys.config.base import BaseConfig, validate
from recsys.config.yaml_files import apply_overrides, read_yaml
from recsys.errors import RecsysError


class Targets(BaseConfig):
    """Which events become samples."""

    actions: tuple[str, ...] = ()  # the actions of targets; empty: all
    # of a user's targets that no other split holds out, every `every`-th is a train row, counted
    # backward from the last one
    every: PositiveInt = 1
    per_user: PositiveInt | None = None  # the most train rows of a user; null: no limit
    min_history: NonNegativeInt = 1  # the fewest behaviors before a target


class Negatives(BaseConfig):
    """Items drawn for each target, never one that the user has any event with.

    A draw depends on the seed, the user and the position of the target among the user's events.
    """

    per_positive: PositiveInt = 1  # the number of negatives for each target
    # `uniform`: all items that are ever a target have equal probability; `popularity`: in
    # proportion to the number of targets in the whole log
    sampling: Literal["uniform", "popularity"] = "uniform"
    seed: NonNegativeInt = 1  # of the draws


class Events(BaseConfig):
    """How an event log becomes samples with histories.

    An event is a row with user, item, time and action. A sample is a target (an event, or an item
    drawn as its negative) with the user's histories: the behaviors before the event.
    """

    user: str = "user"  # the column with the user, by its name in the raw file
    item: str = "item"  # the column with the item
    # the column with a number or a date; null: the events of a user are in order
    time: str | None = "time"
    # whether an event is in histories of the same time: never (`excluded`), or in those of later
    # rows (`by_order`, as in some published datasets)
    ties: Literal["excluded", "by_order"] = "excluded"
    action: str | None = None  # the column with the kind of event
    behaviours: tuple[str, ...] = ()  # the actions that histories contain; empty: all
    # columns that belong to the item; the item's first row counts
    item_features: tuple[str, ...] = ()
    items: ItemTable | None = None  # the file with these columns, if they are not in the log
    # columns that get a history, `COLUMN_history`; null: the item and the categorical item features
    histories: tuple[str, ...] | None = None
    max_length: PositiveInt = 100  # the last `max_length` behaviors are kept
    min_events: NonNegativeInt = 0  # users with fewer behaviors are dropped
    targets: Targets = Targets()  # which events become samples
    # null: the log has labels (`label`), and no negatives are drawn
    negatives: Negatives | None = Negatives()
    check_leakage: bool = True  # whether `prepare` checks the written rows for leakage


class Recipe(BaseConfig):
    """The rules of one dataset."""

    name: str  # of the dataset
    source: str = "table"  # the reader of the raw files, of `data_pipelines.sources`
    file: FileFormat = FileFormat()  # how the raw files are written
    join: tuple[Join, ...] = ()  # tables whose columns are added to the rows
    label: Label = Label()  # the label column and its rule
    numerical: Numerical = Numerical()  # columns of numbers
    categorical: Categorical = Categorical()  # columns with one value in each row
    sequence: SequenceColumns = SequenceColumns()  # columns with many values in each row
    time: TimeColumns = TimeColumns()  # columns of times, which give hour and weekday
    # the column whose rows are ranked together (grouped AUC); it may be a feature too
    group: str | None = None
    min_count: PositiveInt = 2  # values that are rarer in the train rows share id 0
    encoding: EncodingRule = VocabularyRule()  # how values become ids
    per_feature: dict[str, FeatureOptions] = {}  # options by feature name or wildcard
    shared_vocabulary: dict[str, str] = {}  # feature → the feature whose vocabulary it uses
    # how rows are divided into train, valid and test
    split: Annotated[SplitRule, short_form("method")] = RandomSplit()
    events: Events | None = None  # how an event log becomes samples; null: each row is a sample

    @property
    def group_column(self) -> str | None:
        """The column whose rows are ranked together; the user of an event log."""
        return self.events.user if self.events else self.group

    @property
    def split_column(self) -> str | None:
        """The column that the split needs, if any."""
        match self.split:
            case ByTime(column=column):
                return column
            case ByGroup(column=column):
                if not (column or self.group):
                    raise RecsysError(
                        "split.method by_group needs a group column", fix="set group=NAME"
                    )
                return column or self.group
        return None

    @model_validator(mode="after")
    def _check_split(self) -> "Recipe":
        needs_events = isinstance(self.split, LastItem | LastTwoItems)
        if self.events and not (needs_events or isinstance(self.split, ByTime | ByGroup)):
            raise ValueError(
                "split.method of an event log is last_item, last_two_items, by_time or by_group, "
                f"not {self.split.method}"
            )
        if needs_events and not self.events:
            raise ValueError(f"split.method {self.split.method} needs an event log (events: …)")
        if self.events and isinstance(self.split, ByTime) and not self.events.time:
            raise ValueError("split.method by_time needs events.time")
        return self

    @model_validator(mode="after")
    def _check_fractions(self) -> "Recipe":
        fractions = getattr(self.split, "fractions", (1.0, 0.0, 0.0))
        if min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-9:
            raise ValueError(f"split.fractions must be three shares that sum to 1, not {fractions}")
        return self


def load_recipe(path: Path) -> Recipe:
    """Reads a recipe from a YAML file; `name` is the name of the file by default.

    Raises:
        RecsysError: names the key with an invalid value, or the unknown key and the nearest one.
    """
    return validate(Recipe, {"name": path.stem, **read_yaml(path)}, str(path))


def override_recipe(recipe: Recipe, overrides: Sequence[str]) -> Recipe:
    """Returns the recipe with changed values, validated again.

    Args:
        recipe: the recipe to start from.
        overrides: `key.sub=value` texts, the values in YAML. A new `kind` or `method` drops the
            options of the old one.

    Raises:
        RecsysError: names the invalid override.

    >>> override_recipe(Recipe(name="shop"), ["min_count=5", "encoding=hash"]).encoding.kind
    'hash'
    """
    content = recipe.model_dump(mode="json")
    switches = [o for o in overrides if _switches(o)]
    others = [o for o in overrides if not _switches(o)]
    for switch in switches:
        section, key, value = re.split(r"\.(kind|method)=", switch, maxsplit=1)
        changed = apply_overrides(content, [switch])
        if changed != content:
            content = apply_overrides(content, [f"{section}={{{key}: {value}}}"])
    return validate(Recipe, apply_overrides(content, others), f"recipe {recipe.name}")


def _switches(override: str) -> bool:
    return re.match(r"[^=]*\.(kind|method)=", override) is not None
