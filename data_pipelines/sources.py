"""What a source of raw rows offers, and the general one: a text or Parquet table."""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import polars as pl

from data_pipelines.reading import (
    expand_paths,
    open_parquet,
    read_parquet,
    read_text,
    text_columns,
)
from data_pipelines.recipe import Recipe
from recsys.errors import RecsysError, did_you_mean

Dtypes = dict[str, pl.DataType]
NumberedFrame = tuple[int, pl.DataFrame]  # the data row number of the frame's first row, from 1


class Source(Protocol):
    """Raw files → canonical columns: text, or float64 for numerical ones; null or nothing where missing."""

    def files(self, raw: list[Path]) -> list[Path]:
        """The files that hold the rows, in order."""

    def columns(self, recipe: Recipe, path: Path) -> list[str]:
        """The canonical columns of a file; the label's is left out where there is none."""

    def read(self, recipe: Recipe, path: Path, dtypes: Dtypes) -> Iterator[NumberedFrame]:
        """The columns in `dtypes`, in chunks, in row order."""


class TableSource:
    """One row of the file is one sample."""

    def files(self, raw: list[Path]) -> list[Path]:
        return expand_paths(raw)

    def columns(self, recipe: Recipe, path: Path) -> list[str]:
        if recipe.file.format == "text":
            return text_columns(path, recipe.file, recipe.label.column)
        with open_parquet(path) as file:
            return list(file.schema_arrow.names)

    def read(self, recipe: Recipe, path: Path, dtypes: Dtypes) -> Iterator[NumberedFrame]:
        columns = self.columns(recipe, path)
        for name in dtypes:
            if name not in columns:
                raise RecsysError(
                    f"the column {name!r} is missing",
                    where=path,
                    expected=f"one of {', '.join(columns)}",
                    fix=did_you_mean(name, columns),
                )
        if recipe.file.format == "text":
            yield from read_text(path, recipe.file, columns, dtypes)
            return
        for row, frame in read_parquet(path, list(dtypes)):
            yield row, canonical_frame(frame, dtypes, recipe.sequence.separator, path)


def canonical_frame(
    frame: pl.DataFrame, dtypes: Dtypes, separator: str, path: Path
) -> pl.DataFrame:
    """A typed frame with the canonical types: lists joined, other types written as text, empty text missing."""
    columns = []
    for name, dtype in dtypes.items():
        column = pl.col(name)
        if isinstance(frame[name].dtype, pl.List):
            column = column.cast(pl.List(pl.String)).list.join(separator)
        elif dtype == pl.String and frame[name].dtype == pl.Boolean:
            column = column.cast(pl.Int8).cast(pl.String)
        else:
            column = column.cast(dtype)
        columns.append(column.replace("", None) if dtype == pl.String else column.fill_nan(None))
    try:
        return frame.select(columns)
    except pl.exceptions.PolarsError as error:
        raise RecsysError(
            "a column has the wrong type", where=path, got=str(error).splitlines()[0]
        ) from None
