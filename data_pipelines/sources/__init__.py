"""The list of data sources; each entry is one file."""

from collections.abc import Sequence
from pathlib import Path

from data_pipelines.recipe import Recipe, load_recipe
from data_pipelines.source import DataSource, Source
from data_pipelines.sources.amazon import AMAZON
from data_pipelines.sources.avazu import AVAZU
from data_pipelines.sources.criteo import CRITEO
from data_pipelines.sources.joined import joined_source
from data_pipelines.sources.movielens import MOVIELENS
from data_pipelines.sources.table import TABLE
from data_pipelines.sources.taobao import TAOBAO
from data_pipelines.sources.timed import TimedSource
from recsys.errors import RecsysError, did_you_mean

SOURCES: tuple[DataSource, ...] = (TABLE, CRITEO, AVAZU, MOVIELENS, TAOBAO, AMAZON)


def builtin_datasets() -> dict[str, Recipe]:
    """Name → recipe of each built-in dataset, in the order of the list."""
    return {recipe.name: recipe for source in SOURCES for recipe in source.datasets}


def describe_datasets() -> str:
    """The names of the built-in datasets, for help texts."""
    recipes = builtin_datasets().values()
    rows = ", ".join(recipe.name for recipe in recipes if not recipe.events)
    logs = ", ".join(recipe.name for recipe in recipes if recipe.events)
    return f"Built-in datasets: {rows}.\n\nFrom event logs, with histories: {logs}."


def find_recipe(name_or_path: str) -> Recipe:
    """Returns the recipe of a built-in dataset, or reads it from a file.

    Args:
        name_or_path: the name of a built-in dataset, or the path of a recipe in YAML.

    Raises:
        RecsysError: if there is no such dataset, or the recipe is invalid.

    >>> find_recipe("avazu").label.column
    'click'
    """
    recipes = builtin_datasets()
    if name_or_path in recipes:
        return recipes[name_or_path]
    if name_or_path.endswith((".yaml", ".yml")):
        return load_recipe(Path(name_or_path))
    raise RecsysError(
        f"dataset {name_or_path!r} not found",
        expected=f"{', '.join(recipes)}, or the path of a recipe (*.yaml)",
        fix=did_you_mean(name_or_path, recipes),
    )


def reader_of(recipe: Recipe) -> Source:
    """The reader of the recipe's `source`; an unknown name is an error."""
    readers = {name: reader for source in SOURCES for name, reader in source.readers.items()}
    if recipe.source not in readers:
        raise RecsysError(
            f"unknown source {recipe.source!r}",
            where=f"recipe {recipe.name}: source",
            expected=f"one of {', '.join(readers)}",
            fix=did_you_mean(recipe.source, readers),
        )
    return readers[recipe.source]


def open_source(recipe: Recipe, raw: Sequence[Path], may_be_joined: bool = False) -> Source:
    """The reader of the recipe's raw files, with joined tables and times as numbers.

    `may_be_joined`: if no table is among the raw files, their rows have the joined columns already.
    """
    source = joined_source(reader_of(recipe), recipe, raw, may_be_joined)
    return TimedSource(source) if recipe.time.columns else source
