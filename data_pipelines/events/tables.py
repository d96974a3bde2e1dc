"""Tables of samples as raw rows of a dataset that was made of an event log."""

from collections.abc import Iterator
from pathlib import Path

import polars as pl

from data_pipelines.encoding.staging import read_chunks
from data_pipelines.reading.arrow_files import column_names
from data_pipelines.reading.chunks import Dtypes
from data_pipelines.reading.files import binary_format, head_of
from data_pipelines.reading.text import first_line
from data_pipelines.recipe import Recipe
from data_pipelines.rules.columns import Label
from data_pipelines.rules.files import FileFormat
from data_pipelines.sources.table import TableSource, detect_format
from data_pipelines.sources.timed import TimedSource
from recsys.schema import Schema


def is_sample_table(schema: Schema, recipe: Recipe, raw: list[Path]) -> bool:
    """Whether the raw files have a column for each feature; otherwise they are an event log."""
    columns = _names(TableSource().files(raw)[0], recipe.file)
    return {feature.column for feature in schema.features} <= columns


def read_sample_table(schema: Schema, recipe: Recipe, raw: list[Path]) -> Iterator[pl.DataFrame]:
    """Yields the canonical raw columns of features, and user and label if they are in the table."""
    table = TimedSource(TableSource()) if recipe.time.columns else TableSource()
    first = table.files(raw)[0]
    plain = _sample_recipe(recipe, first)
    columns = table.columns(plain, first)
    dtypes: Dtypes = {
        f.column: pl.Float64() if f.kind == "numerical" or f.transform else pl.String()
        for f in schema.features
    }
    group = recipe.group_column
    dtypes |= {c: pl.String() for c in (group, plain.label.column) if c and c in columns}
    for chunk in read_chunks(table, plain, raw, dtypes):
        yield chunk.frame


def _names(path: Path, file: FileFormat) -> set[str]:
    """The column names of the file, if it is a table with a header."""
    if found := binary_format(head_of(path)):
        return set(column_names(path, found))
    fields = first_line(path, file.model_copy(update={"quote": None})).split(file.separator)
    return {field.strip(file.quote or "") for field in fields}


def _sample_recipe(recipe: Recipe, path: Path) -> Recipe:
    """The format of a table of samples: that of the log, but text has a header."""
    file = FileFormat(separator=recipe.file.separator, encoding=recipe.file.encoding)
    file = detect_format(path, file)
    return recipe.model_copy(
        update={"file": file, "events": None, "source": "table", "label": Label()}
    )
