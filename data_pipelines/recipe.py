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
from recsys.config.base import BaseConfig, apply_overrides, read_yaml, validate
from recsys.errors import RecsysError


class Targets(BaseConfig):
    """Which events become samples.

    Attributes:
        actions: the actions of targets; empty: all.
        every: of a user's targets that no other split holds out, every `every`-th is a train row,
            counted backward from the last one.
        per_user: the most train rows of a user; null: no limit.
        min_history: the fewest behaviors before a target.
    """

    actions: tuple[str, ...] = ()
    every: PositiveInt = 1
    per_user: PositiveInt | None = None
    min_history: NonNegativeInt = 1


class Negatives(BaseConfig):
    """Items drawn for each target, never one that the user has any event with.

    A draw depends on the seed, the user and the position of the target among the user's events.

    Attributes:
        per_positive: the number of negatives for each target.
        sampling: `uniform`: all items that are ever a target have equal probability;
            `popularity`: in proportion to the number of targets in the whole log.
        seed: of the draws.
    """

    per_positive: PositiveInt = 1
    sampling: Literal["uniform", "popularity"] = "uniform"
    seed: NonNegativeInt = 1


class Events(BaseConfig):
    """How an event log becomes samples with histories.

    An event is a row with user, item, time and action. A sample is a target (an event, or an item
    drawn as its negative) with the user's histories: the behaviors before the event.

    Attributes:
        user: the column with the user; the columns below are names of the raw file, too.
        item: the column with the item.
        time: the column with a number or a date; null: the events of a user are in order.
        ties: whether an event is in histories of the same time: never (`excluded`), or in those of
            later rows (`by_order`, as in some published datasets).
        action: the column with the kind of event.
        behaviours: the actions that histories contain; empty: all.
        item_features: columns that belong to the item; the item's first row counts.
        items: the file with these columns, if they are not in the log.
        histories: columns that get a history, `COLUMN_history`; null: the item and the categorical
            item features.
        max_length: the last `max_length` behaviors are kept.
        min_events: users with fewer behaviors are dropped.
        targets: which events become samples.
        negatives: null: the log has labels (`label`), and no negatives are drawn.
        check_leakage: whether `prepare` checks the written rows for leakage.
    """

    user: str = "user"
    item: str = "item"
    time: str | None = "time"
    ties: Literal["excluded", "by_order"] = "excluded"
    action: str | None = None
    behaviours: tuple[str, ...] = ()
    item_features: tuple[str, ...] = ()
    items: ItemTable | None = None
    histories: tuple[str, ...] | None = None
    max_length: PositiveInt = 100
    min_events: NonNegativeInt = 0
    targets: Targets = Targets()
    negatives: Negatives | None = Negatives()
    check_leakage: bool = True


class Recipe(BaseConfig):
    """The rules of one dataset.

    Attributes:
        name: of the dataset.
        source: the reader of the raw files, a name in `data_pipelines.sources`.
        file: how the raw files are written.
        join: tables whose columns are added to the rows.
        label: the label column and its rule.
        numerical: columns of numbers.
        categorical: columns with one value in each row.
        sequence: columns with many values in each row.
        time: columns of times, which give hour and weekday.
        group: the column whose rows are ranked together (grouped AUC); it may be a feature too.
        min_count: values that are rarer in the train rows share id 0.
        encoding: how values become ids.
        per_feature: options by feature name or wildcard.
        shared_vocabulary: feature → the feature whose vocabulary it uses.
        split: how rows are divided into train, valid and test.
        events: how an event log becomes samples; null: each row is a sample.
    """

    name: str
    source: str = "table"
    file: FileFormat = FileFormat()
    join: tuple[Join, ...] = ()
    label: Label = Label()
    numerical: Numerical = Numerical()
    categorical: Categorical = Categorical()
    sequence: SequenceColumns = SequenceColumns()
    time: TimeColumns = TimeColumns()
    group: str | None = None
    min_count: PositiveInt = 2
    encoding: EncodingRule = VocabularyRule()
    per_feature: dict[str, FeatureOptions] = {}
    shared_vocabulary: dict[str, str] = {}
    split: Annotated[SplitRule, short_form("method")] = RandomSplit()
    events: Events | None = None

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
    """Reads a recipe file.

    Args:
        path: a YAML file; the recipe's `name` is the file's name by default.

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
