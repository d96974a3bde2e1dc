"""CSV and TSV: blocks of text → frames, every row checked for its number of columns."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from data_pipelines.reading import Block, first_line, prefetch, read_blocks
from data_pipelines.recipe import FileFormat
from recsys.errors import RecsysError

Dtypes = dict[str, pl.DataType]


def check_columns(block: Block, file: FileFormat, columns: int, path: Path) -> None:
    """Every row has as many separators as the header; polars would fill a short row in silence."""
    data = np.frombuffer(block.data, np.uint8)
    separators, newlines = data == ord(file.separator), data == ord("\n")
    if file.quote and file.quote.encode() in block.data:
        outside = ~np.logical_xor.accumulate(data == ord(file.quote))
        separators &= outside
        newlines &= outside
    rows = int(np.count_nonzero(newlines))
    if np.count_nonzero(separators) == rows * (columns - 1):
        return
    raise_wrong_columns(block, np.flatnonzero(newlines), separators, columns, path)


def raise_wrong_columns(
    block: Block,
    ends: NDArray[np.int64],
    separators: NDArray[np.bool_],
    columns: int,
    path: Path,
) -> None:
    """Names the first row whose number of columns is wrong, if there is one."""
    counts = np.diff(np.cumsum(separators)[ends], prepend=0)
    wrong = np.flatnonzero(counts != columns - 1)
    if len(wrong):
        raise RecsysError(
            "a row has the wrong number of columns",
            where=f"{path}, data row {block.first_row + int(wrong[0])}",
            expected=f"{columns} columns",
            got=f"{int(counts[wrong[0]]) + 1}",
        )


def text_columns(path: Path, file: FileFormat, label: str) -> list[str]:
    """The column names: the header's, or the recipe's, less the label where the file has none."""
    line = first_line(path)
    if line.startswith(b"PAR1"):
        raise RecsysError(
            "this is a Parquet file, not text", where=path, fix="set file.format=parquet"
        )
    fields = pl.read_csv(
        line + b"\n",
        has_header=False,
        separator=file.separator,
        quote_char=file.quote,
        infer_schema=False,
    ).row(0)
    if file.header:
        names = [str(field) for field in fields]
        for name in names:
            if names.count(name) > 1:
                raise RecsysError(f"the header names the column {name!r} twice", where=path)
        if not file.columns:
            return names
    names = list(file.columns)
    if len(fields) == len(names) - 1 and label in names:
        names.remove(label)
    if len(fields) != len(names):
        raise RecsysError(
            "the file has the wrong number of columns",
            where=f"{path}, {'header' if file.header else 'data row 1'}",
            expected=f"{len(names)}: {', '.join(names)}",
            got=len(fields),
            fix=f"is {file.separator!r} the separator?" if len(fields) == 1 else None,
        )
    return names


def read_text(
    path: Path, file: FileFormat, columns: list[str], dtypes: Dtypes
) -> Iterator[tuple[int, pl.DataFrame]]:
    """(number of the first row, frame of the columns in `dtypes`) for each block of a text file."""

    def checked() -> Iterator[Block]:
        for block in read_blocks(path, file.quote, skip_lines=int(file.header)):
            check_columns(block, file, len(columns), path)
            yield block

    for block in prefetch(checked()):
        yield block.first_row, parse_block(block, file, columns, dtypes, path)


def parse_block(
    block: Block,
    file: FileFormat,
    columns: list[str],
    dtypes: Dtypes,
    path: Path,
) -> pl.DataFrame:
    """One block as a frame; a value that is not a number is named with its row."""
    schema = {name: dtypes.get(name, pl.String()) for name in columns}
    try:
        return _parse(block, file, schema).select(map(canonical_column, dtypes, dtypes.values()))
    except pl.exceptions.PolarsError as error:
        try:
            texts = _parse(block, file, dict.fromkeys(columns, pl.String()))
        except pl.exceptions.PolarsError:
            raise RecsysError(
                "the text cannot be parsed",
                where=f"{path}, data rows {block.first_row} to {block.first_row + block.rows - 1}",
                got=str(error).splitlines()[0],
            ) from None
        raise _bad_number(texts, dtypes, block, path) from None


def canonical_column(name: str, dtype: pl.DataType) -> pl.Expr:
    """A number that is not finite is missing; so is empty text."""
    column = pl.col(name)
    return pl.when(column.is_finite()).then(column) if dtype.is_float() else column


def _parse(block: Block, file: FileFormat, schema: Dtypes) -> pl.DataFrame:
    return pl.read_csv(
        block.data,
        has_header=False,
        separator=file.separator,
        schema=schema,
        quote_char=file.quote,
        null_values=["", *file.missing] if file.missing or file.quote else None,
    )


def _bad_number(texts: pl.DataFrame, dtypes: Dtypes, block: Block, path: Path) -> RecsysError:
    for name, dtype in dtypes.items():
        if dtype.is_numeric():
            bad = texts[name].cast(dtype, strict=False).is_null() & texts[name].is_not_null()
            if bad.any():
                row = int(bad.arg_true()[0])
                return RecsysError(
                    f"the numerical column {name!r} holds a value that is not a number",
                    where=f"{path}, data row {block.first_row + row}",
                    got=repr(texts[name][row]),
                    fix="list it under categorical.columns, or the value under file.missing",
                )
    return RecsysError("the text cannot be parsed", where=f"{path}, data row {block.first_row}")
