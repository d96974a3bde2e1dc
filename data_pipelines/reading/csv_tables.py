"""CSV and TSV: blocks of text → frames; the number of columns of each row is checked."""

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from data_pipelines.reading.chunks import Dtypes, NumberedFrame, check_unique, fill_names, prefetch
from data_pipelines.reading.row_ends import find_stray_quote, outside_quotes
from data_pipelines.reading.text import Block, check_encoding, first_line, read_blocks
from data_pipelines.rules.files import FileFormat
from recsys.errors import RecsysError

SEPARATORS = (",", ";", "\t", "|")
NAMES_FIX = "correct it, or set header=false and columns if the first line is a row"


def check_columns(block: Block, file: FileFormat, columns: int, path: Path) -> None:
    """Checks the number of separators of each row, since polars fills short rows silently."""
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
    _raise_wrong_columns(block, np.flatnonzero(newlines), separators, columns, path)


def _check_quotes(
    data: NDArray[np.uint8], newlines: NDArray[np.bool_], block: Block, file: FileFormat, path: Path
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
        expected="quotes around a whole value, with quotes inside it doubled",
        got=repr(near.decode(errors="replace")),
        fix=f"correct the row, or set {file.section}.quote=null if quotes have no meaning",
    )


def _raise_wrong_columns(
    block: Block, ends: NDArray[np.int64], separators: NDArray[np.bool_], columns: int, path: Path
) -> None:
    """Raises RecsysError for the first row with a wrong number of columns, if any."""
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
    """The column names of the header or the recipe, without the label if the file has none."""
    key = file.section
    if file.header is None and file.columns:
        raise RecsysError(
            f"{key}.columns is set, but {key}.header is not",
            where=path,
            expected="header: true (the first line has column names, which columns replaces) or "
            "header: false (the first line is a row)",
            fix=f"set {key}.header=true or {key}.header=false",
        )
    if file.header is False and not file.columns:
        raise RecsysError(
            "column names are missing for a file without a header",
            where=path,
            fix=f"set {key}.columns",
        )
    line = first_line(path, file)
    fields = _fields(line, file, path)
    if not file.columns:
        return check_unique(fill_names(fields), f"{path}, header", NAMES_FIX)
    names = check_unique(list(file.columns), f"{path}, {key}.columns", NAMES_FIX)
    if len(fields) == len(names) - 1 and label in names:
        names.remove(label)
    if len(fields) != len(names):
        raise RecsysError(
            "the file has the wrong number of columns",
            where=f"{path}, {'header' if file.has_header else 'data row 1'}",
            expected=f"{len(names)}: {', '.join(names)}",
            got=len(fields),
            fix=_other_separator(line, file),
        )
    return names


def _fields(line: str, file: FileFormat, path: Path) -> list[str]:
    """The values of the first row; a single one with other separators is an error."""
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
        raise RecsysError("invalid first line", where=path, got=error) from None
    if file.has_header and len(fields) == 1 and (hint := _other_separator(line, file)):
        raise RecsysError(
            f"the separator {file.separator!r} does not occur in the header",
            where=path,
            got=line[:100],
            fix=hint,
        )
    return fields


def _other_separator(line: str, file: FileFormat) -> str | None:
    """A hint to the separator of the line if the recipe's separator does not occur."""
    found = [s for s in SEPARATORS if s in line and file.separator not in line]
    return f"set {file.section}.separator={max(found, key=line.count)!r}" if found else None


def read_text(
    path: Path, file: FileFormat, columns: list[str], dtypes: Dtypes
) -> Iterator[NumberedFrame]:
    """Yields the columns in `dtypes` of each block of a text file."""

    def checked() -> Iterator[Block]:
        for block in read_blocks(path, file, keep_blank_rows=len(columns) == 1):
            check_columns(block, file, len(columns), path)
            yield block

    for block in prefetch(checked()):
        yield block.first_row, parse_block(block, file, columns, dtypes, path)


def parse_block(
    block: Block, file: FileFormat, columns: list[str], dtypes: Dtypes, path: Path
) -> pl.DataFrame:
    """One block as a frame; errors name the row of a value that is not a number."""
    schema = {name: dtypes.get(name, pl.String()) for name in columns}
    try:
        return _parse(block, file, schema).select(
            _canonical_column(columns.index(name), dtype) for name, dtype in dtypes.items()
        )
    except pl.exceptions.PolarsError as error:
        try:
            texts = _parse(block, file, dict.fromkeys(columns, pl.String()))
        except pl.exceptions.PolarsError:
            check_encoding(path, file)
            raise RecsysError(
                "invalid text",
                where=f"{path}, data rows {block.first_row} to {block.first_row + block.rows - 1}",
                got=str(error).splitlines()[0],
            ) from None
        raise _bad_number(texts, dtypes, block, file, path) from None


def _canonical_column(index: int, dtype: pl.DataType) -> pl.Expr:
    """NaN and empty text are missing."""
    column = pl.nth(index)  # pl.col would interpret some names as patterns
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
                    f"invalid number in the numerical column {name!r}",
                    where=f"{path}, data row {block.first_row + row}",
                    got=repr(texts[name][row]),
                    fix="list the column under categorical.columns, or the value under "
                    f"{file.section}.missing",
                )
    return RecsysError("invalid text", where=f"{path}, data row {block.first_row}")
