"""CSV and TSV: blocks of text → frames, every row checked for its number of columns."""

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from data_pipelines.reading import blocks
from data_pipelines.reading.blocks import Block, first_line, named, prefetch, read_blocks
from data_pipelines.reading.encodings import check_encoding
from data_pipelines.reading.row_ends import find_stray_quote, outside_quotes
from data_pipelines.rules.file_format import FileFormat
from recsys.errors import RecsysError

Dtypes = dict[str, pl.DataType]

SEPARATORS = (",", ";", "\t", "|")


def check_columns(block: Block, file: FileFormat, columns: int, path: Path) -> None:
    """Every row has as many separators as the header; polars would fill a short row in silence."""
    data = np.frombuffer(block.data, np.uint8)
    separators, newlines = data == ord(file.separator), data == ord("\n")
    if file.quote and file.quote.encode() in block.data:
        outside = outside_quotes(data, file.quote)
        separators &= outside
        newlines &= outside
        _check_quotes(data, newlines, block, file, path)
    rows = int(np.count_nonzero(newlines))
    if np.count_nonzero(separators) == rows * (columns - 1):
        return
    raise_wrong_columns(block, np.flatnonzero(newlines), separators, columns, path)


def _check_quotes(
    data: NDArray[np.uint8],
    newlines: NDArray[np.bool_],
    block: Block,
    file: FileFormat,
    path: Path,
) -> None:
    assert file.quote
    position = find_stray_quote(data, file.quote, file.separator)
    if position is None:
        return
    row = block.first_row + int(np.count_nonzero(newlines[:position]))
    start = block.data.rfind(b"\n", 0, position) + 1
    near = block.data[max(start, position - 30) : position + 30].split(b"\n")[0]
    raise RecsysError(
        "a stray quote character",
        where=f"{path}, data row {row}",
        expected="quotes around a whole value, and quotes inside it doubled",
        got=repr(near.decode(errors="replace")),
        fix=f"correct the row, or set {file.section}.quote=null if quotes are plain characters",
    )


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
        row = int(wrong[0])
        start = int(ends[row - 1]) + 1 if row else 0
        is_blank = not block.data[start : int(ends[row])].strip(b"\r")
        raise RecsysError(
            "a row has the wrong number of columns",
            where=f"{path}, data row {block.first_row + row}",
            expected=f"{columns} columns",
            got="an empty line" if is_blank else f"{int(counts[row]) + 1}",
        )


def text_columns(path: Path, file: FileFormat, label: str) -> list[str]:
    """The column names: the header's, or the recipe's, less the label where the file has none."""
    key = file.section
    if file.header is None and file.columns:
        raise RecsysError(
            f"{key}.columns is given, but not whether the first line holds column names",
            where=path,
            expected="header: true (the first line holds names, which columns replaces) or "
            "header: false (the first line is a row)",
            fix=f"set {key}.header=true or {key}.header=false",
        )
    if file.header is False and not file.columns:
        raise RecsysError(
            "a file without a header needs column names", where=path, fix=f"set {key}.columns"
        )
    line = first_line(path, file)
    fields = _fields(line, file, path)
    if not file.columns:
        return _unique(named(fields), path, "the header")
    names = _unique(list(file.columns), path, f"{key}.columns")
    if len(fields) == len(names) - 1 and label in names:
        names.remove(label)
    if len(fields) != len(names):
        raise RecsysError(
            "the file has the wrong number of columns",
            where=f"{path}, {'header' if file.has_header else 'data row 1'}",
            expected=f"{len(names)}: {', '.join(names)}",
            got=len(fields),
            fix=other_separator(line, file),
        )
    return names


def _fields(line: str, file: FileFormat, path: Path) -> list[str]:
    """The first row's values; one value that holds other separators is a wrong separator."""
    try:
        fields = next(
            csv.reader(
                [line],
                delimiter=file.separator,
                quotechar=file.quote,
                quoting=csv.QUOTE_MINIMAL if file.quote else csv.QUOTE_NONE,
            )
        )
    except csv.Error as error:
        raise RecsysError("the first line cannot be parsed", where=path, got=error) from None
    if file.has_header and len(fields) == 1 and (hint := other_separator(line, file)):
        raise RecsysError(
            f"the separator {file.separator!r} does not occur in the header",
            where=path,
            got=line[:100],
            fix=hint,
        )
    return fields


def other_separator(line: str, file: FileFormat) -> str | None:
    """A hint at the separator that the line does have, if the recipe's does not occur."""
    found = [s for s in SEPARATORS if s in line and file.separator not in line]
    return f"set {file.section}.separator={max(found, key=line.count)!r}" if found else None


def _unique(names: list[str], path: Path, source: str) -> list[str]:
    for name in names:
        if names.count(name) > 1:
            raise RecsysError(
                f"{source} names the column {name!r} twice",
                where=path,
                fix="correct it, or set header=false and columns if the first line is a row",
            )
    return names


def read_text(
    path: Path, file: FileFormat, columns: list[str], dtypes: Dtypes
) -> Iterator[tuple[int, pl.DataFrame]]:
    """(number of the first row, frame of the columns in `dtypes`) for each block of a text file."""

    def checked() -> Iterator[Block]:
        for block in read_blocks(path, file, keep_blank_rows=len(columns) == 1):
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
        return _parse(block, file, schema).select(
            canonical_column(columns.index(name), dtype) for name, dtype in dtypes.items()
        )
    except pl.exceptions.PolarsError as error:
        try:
            texts = _parse(block, file, dict.fromkeys(columns, pl.String()))
        except pl.exceptions.PolarsError:
            check_encoding(path, file, blocks.BLOCK_BYTES)
            raise RecsysError(
                "the text cannot be parsed",
                where=f"{path}, data rows {block.first_row} to {block.first_row + block.rows - 1}",
                got=str(error).splitlines()[0],
            ) from None
        raise _bad_number(texts, dtypes, block, file, path) from None


def canonical_column(index: int, dtype: pl.DataType) -> pl.Expr:
    """NaN is missing; so is empty text."""
    column = pl.nth(index)  # pl.col would take some names for patterns
    return column.fill_nan(None) if dtype.is_float() else column


def _parse(block: Block, file: FileFormat, schema: Dtypes) -> pl.DataFrame:
    return pl.read_csv(
        block.data,
        has_header=False,
        separator=file.separator,
        schema=schema,
        quote_char=file.quote,
        null_values=["", *file.missing] if file.missing or file.quote else None,
    )


def _bad_number(
    texts: pl.DataFrame, dtypes: Dtypes, block: Block, file: FileFormat, path: Path
) -> RecsysError:
    for name, dtype in dtypes.items():
        if dtype.is_numeric():
            bad = texts[name].cast(dtype, strict=False).is_null() & texts[name].is_not_null()
            if bad.any():
                row = int(bad.arg_true()[0])
                return RecsysError(
                    f"the numerical column {name!r} holds a value that is not a number",
                    where=f"{path}, data row {block.first_row + row}",
                    got=repr(texts[name][row]),
                    fix="list it under categorical.columns, or the value under "
                    f"{file.section}.missing",
                )
    return RecsysError("the text cannot be parsed", where=f"{path}, data row {block.first_row}")
