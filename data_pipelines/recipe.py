"""The recipe: how raw files become a data set. One frozen value; every built-in data set is one of these."""

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import (
    BeforeValidator,
    Field,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
    model_validator,
)

from recsys.base_config import BaseConfig
from recsys.errors import RecsysError, did_you_mean
from recsys.schema import CriteoBucket, Keep, Log

Fractions = tuple[float, float, float]


def _named(tag: str) -> BeforeValidator:
    """Lets `transform: log` stand for `transform: {kind: log}`."""
    return BeforeValidator(lambda value: {tag: value} if isinstance(value, str) else value)


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
    _named("kind"),
]


class VocabularyRule(BaseConfig):
    """Ids by descending count in the train rows."""

    kind: Literal["vocabulary"] = "vocabulary"


class HashRule(BaseConfig):
    """Ids by hash64, no vocabulary; `cardinality` counts id 0 (missing) too."""

    kind: Literal["hash"] = "hash"
    cardinality: Annotated[int, Field(ge=2, le=2**31 - 1)] = 1_000_001


EncodingRule = Annotated[VocabularyRule | HashRule, Field(discriminator="kind"), _named("kind")]


class FileFormat(BaseConfig):
    """How the raw files are written. Text files may be gzipped. `columns` names them where no header does."""

    format: Literal["text", "parquet"] = "text"
    separator: Annotated[str, Field(min_length=1, max_length=1)] = ","
    header: bool = True
    columns: tuple[str, ...] = ()
    quote: str | None = '"'
    missing: tuple[str, ...] = ()


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
    rule: Annotated[Binary | Threshold | OneOf, Field(discriminator="kind"), _named("kind")] = (
        Binary()
    )


class Numerical(BaseConfig):
    """Columns of numbers; names or wildcards. A bucket transform turns them into categorical features."""

    columns: tuple[str, ...] = ()
    transform: TransformRule = Keep()


class Categorical(BaseConfig):
    """Columns of one value per row; names or wildcards."""

    columns: tuple[str, ...] = ()


class Sequence(BaseConfig):
    """Columns of many values per row, split at `separator`; of longer ones the last `max_length` are kept."""

    columns: tuple[str, ...] = ()
    separator: str = "|"
    max_length: PositiveInt | None = None


class FeatureOptions(BaseConfig):
    """What one feature (or wildcard) does differently."""

    transform: TransformRule | None = None
    encoding: EncodingRule | None = None
    min_count: PositiveInt | None = None


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


class ByTime(BaseConfig):
    """Train before valid before test. Without a column the rows are already in time order."""

    method: Literal["by_time"] = "by_time"
    column: str | None = None
    boundaries: tuple[float, float] | None = None
    fractions: Fractions = (0.8, 0.1, 0.1)


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


SplitRule = Annotated[
    RandomSplit | StratifiedFolds | ByTime | GivenFiles | ByGroup,
    Field(discriminator="method"),
    _named("method"),
]


class Recipe(BaseConfig):
    """One data set's rules. `source` names the reader of its raw files (`data_pipelines.SOURCES`)."""

    name: str
    source: Literal["table", "avazu", "movielens_1m"] = "table"
    file: FileFormat = FileFormat()
    label: Label = Label()
    numerical: Numerical = Numerical()
    categorical: Categorical = Categorical()
    sequence: Sequence = Sequence()
    group: str | None = None
    min_count: PositiveInt = 2
    encoding: EncodingRule = VocabularyRule()
    per_feature: dict[str, FeatureOptions] = {}
    shared_vocabulary: dict[str, str] = {}
    split: SplitRule = RandomSplit()

    @model_validator(mode="after")
    def _check_fractions(self) -> "Recipe":
        fractions = getattr(self.split, "fractions", (1.0, 0.0, 0.0))
        if min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-9:
            raise ValueError(f"split.fractions must be three shares that sum to 1, not {fractions}")
        return self


class _UniqueKeyLoader(yaml.SafeLoader):
    """Plain YAML keeps the last of two equal keys in silence; this refuses them."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[object, object]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} appears twice", node.start_mark
                )
        return super().construct_mapping(node, deep)


def parse_yaml(text: str, where: object) -> object:
    """YAML to plain values; a duplicate key or a syntax error is the user's to mend."""
    try:
        return yaml.load(text, Loader=_UniqueKeyLoader)  # noqa: S506 (a SafeLoader)
    except yaml.YAMLError as error:
        raise RecsysError(
            "this is not valid YAML", where=where, got=" ".join(str(error).split())
        ) from None


def load_recipe(path: Path) -> Recipe:
    """Reads a recipe file; its name defaults to the file's."""
    try:
        content = parse_yaml(path.read_text(encoding="utf-8"), path)
    except OSError as error:
        raise RecsysError("the recipe cannot be read", where=path, got=error.strerror) from None
    if not isinstance(content, dict):
        raise RecsysError("a recipe is a mapping of keys to values", where=path, got=content)
    return parse_recipe({"name": path.stem, **content}, path)


def parse_recipe(content: dict[str, object], where: object) -> Recipe:
    """Validates a recipe; the message names the key and the nearest known one."""
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        location = ".".join(str(part) for part in first["loc"])
        wrong = str(first["ctx"].get("tag", "")) if "ctx" in first else ""
        if first["type"] == "extra_forbidden":
            wrong = str(first["loc"][-1])
        raise RecsysError(
            f"the recipe is wrong at {location!r}" if location else "the recipe is wrong",
            where=where,
            expected=first["msg"].removeprefix("Value error, "),
            got=wrong or first["input"] if location else None,
            fix=did_you_mean(wrong, _known_words()) if wrong else None,
        ) from None


def _known_words() -> list[str]:
    """Every key and every method's name of a recipe, for hints."""
    words: list[str] = []

    def collect(node: object) -> None:
        if isinstance(node, dict):
            words.extend(node.get("properties", {}))
            words.extend(str(node["const"]) for _ in range("const" in node))
            for child in node.values():
                collect(child)
        elif isinstance(node, list):
            for child in node:
                collect(child)

    collect(Recipe.model_json_schema())
    return sorted(set(words))


def apply_overrides(recipe: Recipe, overrides: list[str]) -> Recipe:
    """The recipe with `key.sub=value` changes (values are YAML), validated again."""
    content = recipe.model_dump(mode="json")
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise RecsysError(
                "an override has no '='", got=override, expected="key.sub=value, as min_count=10"
            )
        _set(content, key.strip().split("."), parse_yaml(text, override), override)
    return parse_recipe(content, " ".join(overrides) or recipe.name)


def _set(content: dict[str, object], keys: list[str], value: object, override: str) -> None:
    """Sets one nested key. A new `kind` or `method` drops the options of the old one."""
    *parents, last = keys
    for parent in parents:
        child = content.setdefault(parent, {})
        if not isinstance(child, dict):
            child = content[parent] = {}
        content = child
    if last in ("kind", "method") and content.get(last) != value:
        content.clear()
    content[last] = value
