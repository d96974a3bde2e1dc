"""What a source of raw rows offers, and the general one: a text or Parquet table."""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import polars as pl

from data_pipelines.parquet_tables import canonical_frame, open_parquet, read_parquet
from data_pipelines.reading import expand_paths
from data_pipelines.recipe import Recipe
from data_pipelines.text_tables import Dtypes, read_text, text_columns
from recsys.errors import RecsysError, did_you_mean

NumberedFrame = tuple[int, pl.DataFrame]  # the data row number of the frame's first row, from 1


class Source(Protocol):
    """Raw files → canonical columns: text, or float64 for numerical ones; null where missing."""

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
