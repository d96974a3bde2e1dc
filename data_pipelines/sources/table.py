"""Tables of any format as raw rows."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import polars as pl

from data_pipelines.reading.arrow_files import column_names, read_columns
from data_pipelines.reading.arrow_values import canonical_frame
from data_pipelines.reading.chunks import Dtypes, NumberedFrame
from data_pipelines.reading.csv_tables import read_text, text_columns
from data_pipelines.reading.files import binary_format, expand_paths, head_of
from data_pipelines.reading.libsvm import read_sparse, sparse_columns
from data_pipelines.recipe import Recipe
from data_pipelines.rules.columns import OutOfRange, SequenceColumns
from data_pipelines.rules.files import FileFormat
from data_pipelines.source import DataSource
from recsys.config.name_patterns import all_matching
from recsys.errors import RecsysError, did_you_mean

MAX_NUMBER = float(np.finfo(np.float32).max)  # numerical features are float32


class TableSource:
    """The general source: one row of a file is one row of the dataset."""

    def files(self, raw: list[Path]) -> list[Path]:
        return expand_paths(raw)

    def columns(self, recipe: Recipe, path: Path) -> list[str]:
        return table_columns(path, recipe.file, recipe.label.column)

    def read(self, recipe: Recipe, path: Path, dtypes: Dtypes) -> Iterator[NumberedFrame]:
        columns = self.columns(recipe, path)
        check_columns_exist(dtypes, columns, path)
        for row, frame in read_table(path, recipe.file, columns, dtypes, recipe.sequence):
            yield row, bound_numbers(frame, recipe.numerical.out_of_range, path, row)


TABLE = DataSource(readers={"table": TableSource()})


def table_columns(path: Path, file: FileFormat, label: str) -> list[str]:
    """The column names of a table of any format."""
    match file.format:
        case "text":
            return text_columns(path, file, label)
        case "libsvm":
            return sparse_columns(path, file)
    if file.columns:
        raise RecsysError(
            f"{file.section}.columns is only for text: {file.format} files have column names",
            where=path,
            fix=f"remove {file.section}.columns",
        )
    return column_names(path, file.format)


def detect_format(path: Path, file: FileFormat) -> FileFormat:
    """The format of the recipe, or Parquet, Arrow or ORC if the file is one of these."""
    return file.model_copy(update={"format": binary_format(head_of(path)) or file.format})


def read_table(
    path: Path, file: FileFormat, columns: list[str], dtypes: Dtypes, sequence: SequenceColumns
) -> Iterator[NumberedFrame]:
    """Yields the columns in `dtypes` of a table of any format; `columns` are all of the file."""
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


def check_columns_exist(names: Iterable[str], known: list[str], where: object) -> None:
    """Raises RecsysError for the first name that is not a column."""
    for name in names:
        if name not in known:
            raise RecsysError(
                f"column {name!r} not found",
                where=where,
                expected=f"one of {', '.join(known)}",
                fix=did_you_mean(name, known),
            )


def bound_numbers(
    frame: pl.DataFrame, rule: OutOfRange, where: Path | str, first_row: int | None = None
) -> pl.DataFrame:
    """Clips, or refuses, numbers that float32 cannot represent; infinities are such numbers.

    `where` is the file, for the message; `first_row` the number of its first row, if rows have one.
    """
    for name, dtype in frame.schema.items():
        if not dtype.is_float():
            continue
        column = frame[name].alias("x")  # some methods interpret the name as a pattern
        low, high = column.min(), column.max()
        if low is None or (low >= -MAX_NUMBER and high <= MAX_NUMBER):  # type: ignore[operator]  # of floats
            continue
        if rule == "refuse":
            row = int((column.abs() > MAX_NUMBER).arg_true()[0])
            raise RecsysError(
                f"a number in the numerical column {name!r} exceeds float32",
                where=where if first_row is None else f"{where}, data row {first_row + row}",
                expected=f"an absolute value of at most {MAX_NUMBER:.4g} (float32)",
                got=column[row],
                fix="correct the value, or set numerical.out_of_range=clip",
            )
        frame = frame.with_columns(column.clip(-MAX_NUMBER, MAX_NUMBER).alias(name))
    return frame
