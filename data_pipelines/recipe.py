"""The recipe: how raw files become a data set. Every built-in data set is one of these."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveInt, model_validator

from data_pipelines.reading.numbers import OutOfRange
from data_pipelines.rules.events import Events
from data_pipelines.rules.file_format import FileFormat
from data_pipelines.rules.joins import Join
from data_pipelines.rules.splits import (
    ByGroup,
    ByTime,
    LastItem,
    LastTwoItems,
    RandomSplit,
    SplitRule,
)
from data_pipelines.rules.tagged import named
from data_pipelines.rules.times import TimeColumns
from recsys.config.base import BaseConfig, apply_overrides, read_yaml, validate
from recsys.schema import CriteoBucket, Keep, Log


class StandardizeRule(BaseConfig):
    """(x - mean) / std, fitted on the train rows."""

    kind: Literal["standardize"] = "standardize"


class QuantileBucketsRule(BaseConfig):
    """Tokens: `num_buckets` buckets of nearly equal mass in the train rows."""

    kind: Literal["quantile_buckets"] = "quantile_buckets"
    num_buckets: PositiveInt = 20


TransformRule = Annotated[
    Keep | Log | StandardizeRule | CriteoBucket | QuantileBucketsRule,
    Field(discriminator="kind"),
    named("kind"),
]


class VocabularyRule(BaseConfig):
    """Ids by descending count in the train rows."""

    kind: Literal["vocabulary"] = "vocabulary"


class HashRule(BaseConfig):
    """Ids by hash64, no vocabulary; `cardinality` counts id 0 (missing) too."""

    kind: Literal["hash"] = "hash"
    cardinality: Annotated[int, Field(ge=2, le=2**31 - 1)] = 1_000_001


EncodingRule = Annotated[VocabularyRule | HashRule, Field(discriminator="kind"), named("kind")]


class Binary(BaseConfig):
    """The label is 0 or 1."""

    kind: Literal["binary"] = "binary"


class Threshold(BaseConfig):
    """At least `positive` is 1, at most `negative` is 0; rows between are dropped."""

    kind: Literal["threshold"] = "threshold"
    positive: float
    negative: float


class OneOf(BaseConfig):
    """One of the `positive` texts is 1, one of the `negative` texts is 0."""

    kind: Literal["one_of"] = "one_of"
    positive: tuple[str, ...]
    negative: tuple[str, ...]


class Label(BaseConfig):
    """The label's column and the rule that makes it 0 or 1; any other value is an error."""

    column: str = "label"
    rule: Annotated[Binary | Threshold | OneOf, Field(discriminator="kind"), named("kind")] = (
        Binary()
    )


class Numerical(BaseConfig):
    """Columns of numbers; names or wildcards. Bucket transforms make them categorical features.

    Numbers beyond float32 (3.4e38) and infinities are refused or clipped; NaN is missing.
    """

    columns: tuple[str, ...] = ()
    transform: TransformRule = Keep()
    out_of_range: OutOfRange = "refuse"


class Categorical(BaseConfig):
    """Columns of one value per row; names or wildcards."""

    columns: tuple[str, ...] = ()


class SequenceColumns(BaseConfig):
    """Columns of many values per row, split at `separator`; the last `max_length` are kept."""

    columns: tuple[str, ...] = ()
    separator: str = "|"
    max_length: PositiveInt | None = None


class FeatureOptions(BaseConfig):
    """What one feature (or wildcard) does differently."""

    transform: TransformRule | None = None
    encoding: EncodingRule | None = None
    min_count: PositiveInt | None = None


class Recipe(BaseConfig):
    """One data set's rules. `source` names its raw files' reader in `data_pipelines.SOURCES`."""

    name: str
    source: Literal["table", "avazu", "movielens_1m", "amazon_reviews", "item_lists"] = "table"
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
    split: SplitRule = RandomSplit()
    events: Events | None = None

    @property
    def group_column(self) -> str | None:
        """Whose rows are ranked among themselves; of an event log, always the user."""
        return self.events.user if self.events else self.group

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
    """Reads a recipe file; its name defaults to the file's."""
    return validate(Recipe, {"name": path.stem, **read_yaml(path)}, str(path))


def override_recipe(recipe: Recipe, overrides: Sequence[str]) -> Recipe:
    """The recipe with `key.sub=value` changes, validated again.

    A new `kind` or `method` drops the options of the old one.
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
