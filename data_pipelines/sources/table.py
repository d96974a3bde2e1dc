"""What a source of raw rows offers, and the general one: a table of any format."""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import polars as pl

from data_pipelines.reading.arrow_files import column_names, read_columns
from data_pipelines.reading.arrow_values import canonical_frame
from data_pipelines.reading.blocks import expand_paths
from data_pipelines.reading.csv_tables import Dtypes, read_text, text_columns
from data_pipelines.reading.libsvm import read_sparse, sparse_columns
from data_pipelines.reading.numbers import bounded_numbers
from data_pipelines.recipe import Recipe, SequenceColumns
from data_pipelines.rules.file_format import FileFormat
from recsys.config.name_patterns import all_matching
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
        return table_columns(path, recipe.file, recipe.label.column)

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
        for row, frame in read_table(path, recipe.file, columns, dtypes, recipe.sequence):
            yield row, bounded_numbers(frame, recipe.numerical.out_of_range, path, row)


def table_columns(path: Path, file: FileFormat, label: str) -> list[str]:
    """The column names of a table of any format."""
    match file.format:
        case "text":
            return text_columns(path, file, label)
        case "libsvm":
            return sparse_columns(path, file)
    if file.columns:
        raise RecsysError(
            f"{file.section}.columns is for text, and {file.format} files have column names",
            where=path,
            fix=f"remove {file.section}.columns",
        )
    return column_names(path, file.format)


def read_table(
    path: Path,
    file: FileFormat,
    columns: list[str],
    dtypes: Dtypes,
    sequence: SequenceColumns,
) -> Iterator[NumberedFrame]:
    """The columns in `dtypes` of a table of any format; `columns` are those of the file."""
    if file.format == "text":
        yield from read_text(path, file, columns, dtypes)
        return
    is_list = all_matching(sequence.columns, columns)
    if file.format == "libsvm":
        frames = read_sparse(path, file, columns, dtypes, is_list)
    else:
        frames = read_columns(path, file.format, list(dtypes))
    for row, frame in frames:
        yield row, canonical_frame(frame, dtypes, is_list, path, row)
