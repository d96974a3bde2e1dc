"""The features of a recipe for given columns: wildcards are expanded, unknown names are errors."""

import dataclasses
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

import polars as pl

from data_pipelines.recipe import Recipe
from data_pipelines.rules.columns import FeaturePlan, TransformRule, VocabularyRule, makes_tokens
from recsys.config.name_patterns import names_matching
from recsys.errors import RecsysError, did_you_mean


@dataclass(frozen=True)
class Plan:
    """All features, and the columns to read with their types."""

    features: tuple[FeaturePlan, ...]
    dtypes: dict[str, pl.DataType] = field(default_factory=dict)


def make_plan(recipe: Recipe, columns: list[str]) -> Plan:
    """Resolves all names of the recipe; features are in the order of the sections of the recipe."""
    kinds = {
        "numerical": recipe.numerical.columns,
        "categorical": recipe.categorical.columns,
        "sequence": recipe.sequence.columns,
        "time": recipe.time.columns,
    }
    reserved = {recipe.label.column}
    column_kinds: dict[str, str] = {}
    for kind, patterns in kinds.items():
        for column in resolve(patterns, columns, f"{kind}.columns", reserved):
            if column in column_kinds:
                raise RecsysError(
                    f"duplicate column {column!r}",
                    where=f"{column_kinds[column]}.columns and {kind}.columns",
                    fix="list it in one section",
                )
            column_kinds[column] = kind
    if not column_kinds:
        raise RecsysError(
            "the recipe has no features",
            where=recipe.name,
            expected="numerical.columns, categorical.columns, sequence.columns or time.columns",
        )
    names = _time_features(recipe, column_kinds)
    _check_names(
        recipe, [c for c, kind in column_kinds.items() if kind != "time"] + list(names), columns
    )
    for name in {recipe.label.column, "label", "group_id"} & column_kinds.keys():
        raise RecsysError(
            f"{name!r} cannot be a feature",
            where=f"{column_kinds[name]}.columns",
            expected="columns other than the label column, label and group_id",
        )
    features = tuple(
        _plan_feature(recipe, c, kind, column_kinds)
        for c, kind in column_kinds.items()
        if kind != "time"
    ) + tuple(names.values())
    return Plan(_with_shared(recipe, features), _dtypes(recipe, column_kinds))


def resolve(
    patterns: Iterable[str], columns: list[str], where: str, reserved: set[str]
) -> list[str]:
    """The columns that match the names and wildcards, in their order, without duplicates."""
    found: dict[str, None] = {}
    for pattern in patterns:
        matches = names_matching(pattern, columns)
        if matches != [pattern]:
            matches = [c for c in matches if c not in reserved]
        if not matches:
            raise RecsysError(
                f"column {pattern!r} not found",
                where=where,
                expected=f"one of {', '.join(columns)}",
                fix=did_you_mean(pattern, columns),
            )
        found.update(dict.fromkeys(matches))
    return list(found)


def _check_names(recipe: Recipe, features: list[str], columns: list[str]) -> None:
    """Checks the names in other sections than the lists of columns."""
    for pattern in recipe.per_feature:
        resolve([pattern], features, "per_feature", set())
    for name in [*recipe.shared_vocabulary, *recipe.shared_vocabulary.values()]:
        resolve([name], features, "shared_vocabulary", set())
    if recipe.group:
        resolve([recipe.group], columns, "group", set())
    if recipe.split_column:
        resolve([recipe.split_column], columns, "split.column", set())


def _plan_feature(recipe: Recipe, name: str, kind: str, names: Collection[str]) -> FeaturePlan:
    transform: TransformRule | None = recipe.numerical.transform if kind == "numerical" else None
    encoding, min_count = recipe.encoding, recipe.min_count
    for pattern, options in recipe.per_feature.items():
        if name in names_matching(pattern, names):
            transform = options.transform or transform
            encoding = options.encoding or encoding
            min_count = options.min_count or min_count
    if transform is not None and kind != "numerical":
        raise RecsysError(
            f"a transform is not allowed for the {kind} feature {name!r}", where="per_feature"
        )
    if kind == "numerical" and makes_tokens(transform):
        kind = "categorical"
    is_sequence = kind == "sequence"
    return FeaturePlan(
        name=name,
        kind=kind,
        column=name,
        transform=transform,
        encoding=None if kind == "numerical" else encoding,
        min_count=min_count,
        vocabulary=name,
        separator=recipe.sequence.separator if is_sequence else None,
        max_length=recipe.sequence.max_length if is_sequence else None,
    )


def _time_features(recipe: Recipe, column_kinds: dict[str, str]) -> dict[str, FeaturePlan]:
    """The categorical features of time columns, by name."""
    made: dict[str, FeaturePlan] = {}
    for column in (c for c, kind in column_kinds.items() if kind == "time"):
        for name, transform in recipe.time.transforms(column).items():
            if column_kinds.get(name, "time") != "time" or name in made:
                raise RecsysError(
                    f"duplicate feature name {name!r}",
                    where=f"time.columns and {column_kinds.get(name, 'time')}.columns",
                    fix="rename the column, or remove it from one of them",
                )
            plain = _plan_feature(recipe, name, "categorical", (*column_kinds, name))
            made[name] = dataclasses.replace(plain, column=column, transform=transform)
    return made


def _with_shared(recipe: Recipe, features: tuple[FeaturePlan, ...]) -> tuple[FeaturePlan, ...]:
    """Replaces the vocabulary of features that share one by its owner."""
    by_name = {f.name: f for f in features}
    for name, owner in recipe.shared_vocabulary.items():
        pair = (by_name[name], by_name[owner])
        text = all(isinstance(f.encoding, VocabularyRule) and f.transform is None for f in pair)
        if not text or owner in recipe.shared_vocabulary:
            raise RecsysError(
                f"{name!r} cannot share the vocabulary of {owner!r}",
                where="shared_vocabulary",
                expected="two categorical or sequence features of text with encoding vocabulary; "
                "the owner must have its own vocabulary",
            )
        by_name[name] = dataclasses.replace(pair[0], vocabulary=owner)
    return tuple(by_name.values())


def _dtypes(recipe: Recipe, column_kinds: dict[str, str]) -> dict[str, pl.DataType]:
    """Canonical types: numbers and times are float64, all others text."""
    dtypes: dict[str, pl.DataType] = {recipe.label.column: pl.String()}
    for column, kind in column_kinds.items():
        dtypes[column] = pl.Float64() if kind in ("numerical", "time") else pl.String()
    for extra in (recipe.group, recipe.split_column):
        if extra:
            dtypes.setdefault(extra, pl.String())
    return dtypes
