"""Raw rows of a data set that was made of an event log: a log again, or a table of samples."""

from collections.abc import Iterator
from pathlib import Path

import polars as pl

from data_pipelines.encoding.staging import read_chunks
from data_pipelines.events.pipeline import read_raw_samples
from data_pipelines.reading.arrow_files import column_names
from data_pipelines.reading.blocks import first_line
from data_pipelines.reading.csv_tables import Dtypes
from data_pipelines.reading.file_kinds import binary_format, head_of
from data_pipelines.reading.times import timed_source
from data_pipelines.recipe import Label, Recipe
from data_pipelines.rules.file_format import FileFormat
from data_pipelines.sources.table import Source, TableSource
from recsys.schema import Schema


def read_event_rows(
    schema: Schema, recipe: Recipe, source: Source, raw: list[Path]
) -> Iterator[pl.DataFrame]:
    """Samples as canonical raw columns; of a table the features, and user and label if there."""
    table = timed_source(TableSource(), recipe)
    first = table.files(raw)[0]
    if not {feature.column for feature in schema.features} <= _names(first, recipe.file):
        yield from read_raw_samples(recipe, source, raw)
        return
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
    """What would be the column names if this were a table with a header."""
    if found := binary_format(head_of(path)):
        return set(column_names(path, found))
    fields = first_line(path, file.model_copy(update={"quote": None})).split(file.separator)
    return {field.strip(file.quote or "") for field in fields}


def _sample_recipe(recipe: Recipe, path: Path) -> Recipe:
    """How a table of samples is written: as the log's files are, text with a header."""
    log = recipe.file
    file = FileFormat(
        format=binary_format(head_of(path)) or "text",
        separator=log.separator,
        encoding=log.encoding,
    )
    return recipe.model_copy(
        update={"file": file, "events": None, "source": "table", "label": Label()}
    )
