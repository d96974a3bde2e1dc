"""How raw columns become features and labels: sections of a recipe."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, PositiveInt

from recsys.config.base import BaseConfig
from recsys.schema import (
    CriteoBucket,
    Hour,
    Keep,
    Log,
    QuantileBuckets,
    TimeUnit,
    Transform,
    Weekday,
)


def short_form(tag: str) -> BeforeValidator:
    """Allows `transform: log` as a short form of `transform: {kind: log}`."""
    return BeforeValidator(lambda value: {tag: value} if isinstance(value, str) else value)


class StandardizeRule(BaseConfig):
    """(x - mean) / std, fitted on the train rows."""

    kind: Literal["standardize"] = "standardize"


class QuantileBucketsRule(BaseConfig):
    """Tokens: `num_buckets` buckets with nearly equal numbers of train rows."""

    kind: Literal["quantile_buckets"] = "quantile_buckets"
    num_buckets: PositiveInt = 20  # number of buckets


TransformRule = Annotated[
    Keep | Log | StandardizeRule | CriteoBucket | QuantileBucketsRule,
    Field(discriminator="kind"),
    short_form("kind"),
]


def makes_tokens(rule: TransformRule | Transform | None) -> bool:
    """Whether the results of the transform are categories, not numbers."""
    return isinstance(rule, CriteoBucket | QuantileBuckets | QuantileBucketsRule | Hour | Weekday)


class VocabularyRule(BaseConfig):
    """Ids by descending count in the train rows."""

    kind: Literal["vocabulary"] = "vocabulary"


class HashRule(BaseConfig):
    """Ids by hash64, without a vocabulary; `cardinality` includes id 0 (missing)."""

    kind: Literal["hash"] = "hash"
    # number of ids, id 0 (missing) included
    cardinality: Annotated[int, Field(ge=2, le=2**31 - 1)] = 1_000_001


EncodingRule = Annotated[VocabularyRule | HashRule, Field(discriminator="kind"), short_form("kind")]


class Binary(BaseConfig):
    """The raw label is 0 or 1."""

    kind: Literal["binary"] = "binary"


class Threshold(BaseConfig):
    """1 if the number is at least `positive`, 0 if at most `negative`; others are dropped."""

    kind: Literal["threshold"] = "threshold"
    positive: float  # smallest value of label 1
    negative: float  # largest value of label 0


class OneOf(BaseConfig):
    """1 for the `positive` texts, 0 for the `negative` texts."""

    kind: Literal["one_of"] = "one_of"
    positive: tuple[str, ...]  # texts of label 1
    negative: tuple[str, ...]  # texts of label 0


class Label(BaseConfig):
    """The label column, and the rule that makes 0 or 1 of it; any other value is an error."""

    column: str = "label"  # the label column
    # which values are 1 and 0
    rule: Annotated[Binary | Threshold | OneOf, Field(discriminator="kind"), short_form("kind")] = (
        Binary()
    )


OutOfRange = Literal["refuse", "clip"]


class Numerical(BaseConfig):
    """Columns of numbers."""

    columns: tuple[str, ...] = ()  # names or wildcards
    transform: TransformRule = Keep()  # bucket transforms make a categorical feature of the column
    # infinities and numbers beyond float32 (3.4e38) are an error or are clipped; NaN is missing
    out_of_range: OutOfRange = "refuse"


class Categorical(BaseConfig):
    """Columns with one value in each row: names or wildcards."""

    columns: tuple[str, ...] = ()  # names or wildcards


class SequenceColumns(BaseConfig):
    """Columns with many values in each row."""

    columns: tuple[str, ...] = ()  # names or wildcards
    separator: str = "|"  # splits text into values; lists of typed files are not split
    max_length: PositiveInt | None = None  # the last `max_length` values are kept; null: all


Part = Literal["hour", "weekday"]


class TimeColumns(BaseConfig):
    """Columns of times, each of which gives the features COLUMN_hour and COLUMN_weekday."""

    # names or wildcards; values are ISO 8601 text, typed dates and times, or numbers, in UTC unless
    # they have a time zone
    columns: tuple[str, ...] = ()
    parts: tuple[Part, ...] = Field(("hour", "weekday"), min_length=1)  # the features to make
    unit: TimeUnit = "s"  # the unit of numbers, which count from 1970

    def transforms(self, column: str) -> dict[str, Hour | Weekday]:
        """Feature name → transform of the column."""
        made: dict[Part, Hour | Weekday] = {
            "hour": Hour(unit=self.unit),
            "weekday": Weekday(unit=self.unit),
        }
        return {f"{column}_{part}": made[part] for part in self.parts}


class FeatureOptions(BaseConfig):
    """Options of one feature, or of all that match a wildcard."""

    transform: TransformRule | None = None  # null: the recipe's numerical.transform
    encoding: EncodingRule | None = None  # null: the recipe's encoding
    min_count: PositiveInt | None = None  # null: the recipe's min_count


@dataclass(frozen=True)
class FeaturePlan:
    """A feature to build: its raw column and the rules that apply to it."""

    name: str
    kind: str
    column: str
    transform: TransformRule | Hour | Weekday | None
    encoding: EncodingRule | None
    min_count: int
    vocabulary: str  # the feature that owns the vocabulary: this one, or the one it shares
    separator: str | None = None
    max_length: int | None = None
