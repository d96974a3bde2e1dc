"""The dataset contract, `schema.json`: written by data_pipelines, read by everything else.

Ids: 0 is missing, unseen or rarer than `min_count`; 1 is the most frequent value of the train rows,
2 the next (ties by value), so a frequency band is a range of ids.
"""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, ValidationError, model_validator

from recsys.config.base import BaseConfig
from recsys.errors import RecsysError, did_you_mean, shorten
from recsys.io.paths import RelativePath, file_inside, read_bytes

FORMAT_VERSION = 1
SCHEMA_FILE = "schema.json"


class Keep(BaseConfig):
    """x unchanged; missing becomes `missing`."""

    kind: Literal["keep"] = "keep"
    missing: float = 0.0  # number for a missing value


class Log(BaseConfig):
    """ln(1 + max(x, 0)); missing becomes `missing`."""

    kind: Literal["log"] = "log"
    missing: float = 0.0  # number for a missing value


class Standardize(BaseConfig):
    """(x - mean) / std with the train rows' mean and std; missing becomes 0 (the mean)."""

    kind: Literal["standardize"] = "standardize"
    mean: float
    std: float


class CriteoBucket(BaseConfig):
    """Integer token floor(ln(x)²) + `shift` for x > 2, else int(x) (towards zero)."""

    kind: Literal["criteo_bucket"] = "criteo_bucket"
    missing: int | None = None  # number for a missing value; null: it stays missing (id 0)
    absent: tuple[int, ...] = ()  # tokens that never get an id
    # added to buckets above 2; 2 keeps 3, 4 and 5 apart from 1 and 2, which the published rule (0)
    # merges
    shift: int = 0


class QuantileBuckets(BaseConfig):
    """Integer token: how many quantile `edges` of the train rows are <= x; missing stays so."""

    kind: Literal["quantile_buckets"] = "quantile_buckets"
    edges: tuple[float, ...]


TimeUnit = Literal["s", "ms", "us"]
TICKS_PER_SECOND: dict[TimeUnit, float] = {"s": 1.0, "ms": 1e3, "us": 1e6}


class Hour(BaseConfig):
    """Integer token 0 … 23: the hour in UTC of a moment, `unit`s since 1970; missing stays so."""

    kind: Literal["hour"] = "hour"
    unit: TimeUnit = "s"


class Weekday(BaseConfig):
    """Integer token, 0 is Sunday: the day in UTC of a moment, `unit`s since 1970."""

    kind: Literal["weekday"] = "weekday"
    unit: TimeUnit = "s"


Transform = Annotated[
    Keep | Log | Standardize | CriteoBucket | QuantileBuckets | Hour | Weekday,
    Field(discriminator="kind"),
]


class VocabularyEncoding(BaseConfig):
    """value → id by the table in `file` (columns value, id, count), relative to the dataset."""

    kind: Literal["vocabulary"] = "vocabulary"
    file: RelativePath


class HashEncoding(BaseConfig):
    """value → 1 + hash64(value) mod (cardinality - 1), no dictionary; missing is 0.

    hash64 is `data_pipelines.encoding.hashing.hash64_text` of the value's UTF-8 text (version 1).
    """

    kind: Literal["hash"] = "hash"
    version: Literal[1] = 1


Encoding = Annotated[VocabularyEncoding | HashEncoding, Field(discriminator="kind")]


class Feature(BaseConfig):
    """One model input and how its raw value becomes a number.

    kinds: numerical (float32), categorical (one int32 id), sequence (list<int32> of ids).
    `column` is the raw column it is made from, after the dataset's own parsing. A sequence's text
    is split at `separator`; empty items are missing, and the last `max_length` items are kept.
    """

    name: str
    kind: Literal["numerical", "categorical", "sequence"]
    column: str
    transform: Transform | None = None
    encoding: Encoding | None = None
    cardinality: PositiveInt | None = Field(None, le=2**31)  # ids are int32
    max_length: PositiveInt | None = Field(None, le=2**31 - 1)
    separator: str | None = None

    @property
    def num_ids(self) -> int:
        """How many ids the feature can take, id 0 included."""
        if self.cardinality is None:
            raise ValueError(f"{self.name} is numerical and has no ids")
        return self.cardinality


SplitName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]  # files are named after it


class DataFile(BaseConfig):
    """One Parquet file of a split; `path` is relative to the dataset."""

    path: RelativePath
    rows: NonNegativeInt
    sha256: str


class Split(BaseConfig):
    """The rows of one split, in file order."""

    rows: NonNegativeInt
    positives: NonNegativeInt
    files: tuple[DataFile, ...]

    @model_validator(mode="after")
    def _counts_agree(self) -> Self:
        in_files = sum(file.rows for file in self.files)
        if self.files and in_files != self.rows:
            raise ValueError(f"{self.rows:,} rows in the split's files, not {in_files:,}")
        if self.positives > self.rows:
            raise ValueError(f"at most {self.rows:,} positives, not {self.positives:,}")
        return self


class FeatureCounts(BaseConfig):
    """What `prepare` counted of one feature in one split.

    values: rows, or items of a sequence. missing: null or empty, None if not counted apart from
    unseen. unseen: values with id 0, which the train rows lack or hold less often than `min_count`.
    distinct: ids above 0 that occur; None for numbers.
    """

    values: NonNegativeInt
    missing: NonNegativeInt | None
    unseen: NonNegativeInt
    distinct: NonNegativeInt | None


class JoinCounts(BaseConfig):
    """How the rows' keys met those of one joined table.

    missing: rows without a key. unmatched: rows whose key the table lacks. unused: keys of the
    table that no row has.
    """

    table: str
    key: tuple[str, ...]
    rows: NonNegativeInt
    missing: NonNegativeInt
    unmatched: NonNegativeInt
    table_keys: NonNegativeInt
    unused: NonNegativeInt


class Schema(BaseConfig):
    """Everything a consumer needs to know of a prepared dataset."""

    format: Literal[1] = 1
    name: str
    features: tuple[Feature, ...]
    label: str = "label"
    group: str | None = None
    splits: dict[SplitName, Split]
    recipe: dict[str, object] = {}
    created_by: str = ""
    # by feature and split; empty in datasets of earlier versions
    statistics: dict[str, dict[SplitName, FeatureCounts]] = {}
    # rows that were left out, by reason; joined tables; what `prepare` warned of
    dropped_rows: dict[str, NonNegativeInt] = {}
    joins: tuple[JoinCounts, ...] = ()
    warnings: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _features_fit(self) -> Self:
        names = [feature.name for feature in self.features]
        for feature in self.features:
            if names.count(feature.name) > 1 or feature.name == self.label:
                raise ValueError(f"no duplicate feature name {feature.name!r}")
            if feature.kind != "numerical" and feature.cardinality is None:
                raise ValueError(f"a cardinality of {feature.name!r}")
        return self

    def of_kind(self, *kinds: str) -> tuple[Feature, ...]:
        """The features of these kinds, in schema order."""
        return tuple(f for f in self.features if f.kind in kinds)

    @property
    def numerical(self) -> tuple[Feature, ...]:
        return self.of_kind("numerical")

    @property
    def sparse(self) -> tuple[Feature, ...]:
        """The features that are ids: categorical and sequence."""
        return self.of_kind("categorical", "sequence")

    def feature(self, name: str) -> Feature:
        """The feature of that name; a wrong name gets the nearest one as a hint."""
        for feature in self.features:
            if feature.name == name:
                return feature
        names = [f.name for f in self.features]
        raise RecsysError(
            f"the dataset {self.name!r} has no feature {name!r}",
            expected=", ".join(names),
            fix=did_you_mean(name, names),
        )

    def split(self, name: str) -> Split:
        """The split of that name."""
        if name not in self.splits:
            raise RecsysError(
                f"the dataset {self.name!r} has no split {name!r}",
                expected=", ".join(self.splits),
                fix=did_you_mean(name, self.splits),
            )
        return self.splits[name]

    def fingerprint(self) -> str:
        """sha256 over features and file checksums: equal exactly when the data are the same."""
        content = {
            "features": [f.model_dump(mode="json") for f in self.features],
            "splits": {name: s.model_dump(mode="json") for name, s in self.splits.items()},
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def load_schema(dataset_dir: Path) -> Schema:
    """Reads `schema.json`; a folder without a complete one is not a dataset."""
    path = dataset_dir / SCHEMA_FILE
    try:
        content = read_bytes(file_inside(dataset_dir, SCHEMA_FILE))
        _check_format(content, path)
        return Schema.model_validate_json(content)
    except (FileNotFoundError, NotADirectoryError):
        raise RecsysError(
            f"{dataset_dir} is not a dataset: it has no {SCHEMA_FILE}",
            expected="a folder written by `recsys prepare`",
            fix="run `recsys prepare NAME --raw FILE --out DIR`; a killed prepare leaves no schema",
        ) from None
    except PermissionError:
        raise RecsysError("no permission to read the schema", where=path) from None
    except ValidationError as error:
        first = error.errors()[0]
        raise RecsysError(
            "the schema is damaged or was written by another version",
            where=": ".join([str(path), ".".join(map(str, first["loc"]))]).removesuffix(": "),
            expected=first["msg"].removeprefix("Value error, ").removeprefix("Input should be "),
            got=None if isinstance(first["input"], dict) else shorten(repr(first["input"])),
            fix="prepare the dataset again",
        ) from None


def _check_format(content: bytes, path: Path) -> None:
    """A newer format is named as such; anything else that is wrong is for the full check."""
    try:
        found = json.loads(content)["format"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return
    if isinstance(found, int) and found > FORMAT_VERSION:
        raise RecsysError(
            "the dataset was prepared by a newer recsys",
            where=path,
            expected=f"format {FORMAT_VERSION}",
            got=f"format {found}",
            fix="install the newer recsys, or prepare the dataset again with this one",
        )
