"""Raw files in chunks: memory holds a few blocks of text, however long the file is."""

import fnmatch
import gzip
import re
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeVar, cast

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from data_pipelines.recipe import FileFormat
from recsys.errors import RecsysError

BLOCK_BYTES = 32 << 20
PARQUET_ROWS = 1 << 18

T = TypeVar("T")


class Block(NamedTuple):
    """Whole lines of one file; `first_row` counts data rows from 1."""

    data: bytes
    rows: int
    first_row: int


def prefetch(items: Iterator[T]) -> Iterator[T]:
    """The same items, each made by a background thread while the one before is in use."""
    end = object()
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(next, items, end)
        while (item := pending.result()) is not end:
            pending = pool.submit(next, items, end)
            yield cast(T, item)


def expand_paths(raw: list[Path], patterns: tuple[str, ...] = ("*",)) -> list[Path]:
    """The raw files, folders replaced by their files in natural order (day_2 before day_10)."""
    files: list[Path] = []
    for path in raw:
        if path.is_dir():
            inside = [p for p in path.iterdir() if p.is_file() and not p.name.startswith(".")]
            inside = [p for p in inside if any(fnmatch.fnmatch(p.name, x) for x in patterns)]
            files += sorted(inside, key=_natural)
        elif path.exists():
            files.append(path)
        else:
            raise RecsysError(f"the raw file {path} does not exist", fix="check --raw")
    if not files:
        raise RecsysError(
            "there is no raw file", where=", ".join(map(str, raw)), expected=", ".join(patterns)
        )
    return files


def _natural(path: Path) -> list[tuple[int, str]]:
    return [
        (int(part or -1), "") if part.isdigit() else (-1, part)
        for part in re.split(r"(\d+)", path.name)
    ]


def open_text(path: Path) -> BinaryIO:
    """The file's bytes, decompressed when they are gzip (told by the first two bytes, not the name)."""
    stream = path.open("rb")
    if stream.peek(2)[:2] != b"\x1f\x8b":
        return stream
    return cast(BinaryIO, gzip.open(stream))


def read_blocks(path: Path, quote: str | None = None, skip_lines: int = 0) -> Iterator[Block]:
    """Blocks that end where a row ends; `skip_lines` header lines are left out."""
    rest, row = b"", 1 - skip_lines
    with open_text(path) as stream:
        while True:
            try:
                data = stream.read(BLOCK_BYTES)
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                raise RecsysError(
                    "the gzip file is truncated or damaged",
                    where=f"{path}, after data row {row - 1}",
                    got=error,
                    fix="copy or download it again",
                ) from None
            block, rest = _cut(rest + data if rest else data, quote, last=not data)
            if block and row < 1:
                block = block.split(b"\n", skip_lines)[skip_lines]
                row = 1
            if block:
                rows = block.count(b"\n")
                yield Block(block, rows, row)
                row += rows
            if not data:
                return


def _cut(data: bytes, quote: str | None, last: bool) -> tuple[bytes, bytes]:
    """Whole rows, and what remains. A newline inside quotes does not end a row."""
    if last:
        return (data if not data or data.endswith(b"\n") else data + b"\n"), b""
    end = data.rfind(b"\n") + 1
    if quote and (mark := quote.encode()) in data:
        while end and data.count(mark, 0, end) % 2:
            end = data.rfind(b"\n", 0, end - 1) + 1
    return data[:end], data[end:]


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


def first_line(path: Path) -> bytes:
    """The first line without its end; an empty file has none."""
    try:
        with open_text(path) as stream:
            line = stream.readline()
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise RecsysError("the gzip file is truncated or damaged", where=path, got=error) from None
    if not line.strip(b"\r\n"):
        raise RecsysError("the file is empty", where=path, fix="give a file with rows")
    return line.rstrip(b"\r\n")


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
        return [str(field) for field in fields]
    names = list(file.columns)
    if len(fields) == len(names) - 1 and label in names:
        names.remove(label)
    if len(fields) != len(names):
        raise RecsysError(
            "the file has the wrong number of columns",
            where=f"{path}, data row 1",
            expected=f"{len(names)}: {', '.join(names)}",
            got=len(fields),
            fix=f"is {file.separator!r} the separator?" if len(fields) == 1 else None,
        )
    return names


def read_text(
    path: Path, file: FileFormat, columns: list[str], dtypes: dict[str, pl.DataType]
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
    dtypes: dict[str, pl.DataType],
    path: Path,
) -> pl.DataFrame:
    """One block as a frame; a value that is not a number is named with its row."""
    schema = {name: dtypes.get(name, pl.String()) for name in columns}
    try:
        return _parse(block, file, schema).select(list(dtypes))
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


def _parse(block: Block, file: FileFormat, schema: dict[str, pl.DataType]) -> pl.DataFrame:
    return pl.read_csv(
        block.data,
        has_header=False,
        separator=file.separator,
        schema=schema,
        quote_char=file.quote,
        null_values=["", *file.missing] if file.missing or file.quote else None,
    ).rechunk()


def _bad_number(
    texts: pl.DataFrame, dtypes: dict[str, pl.DataType], block: Block, path: Path
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
                    fix="list it under categorical.columns, or the value under file.missing",
                )
    return RecsysError("the text cannot be parsed", where=f"{path}, data row {block.first_row}")


def open_parquet(path: Path) -> pq.ParquetFile:
    """An open Parquet file, or the reason why it is none."""
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowInvalid, pa.ArrowIOError) as error:
        if isinstance(error, PermissionError):
            raise
        raise RecsysError(
            "this is not a whole Parquet file",
            where=path,
            got=str(error).splitlines()[0],
            fix="is it text (file.format=text), or was the copy cut short?",
        ) from None


def read_parquet(path: Path, names: list[str]) -> Iterator[tuple[int, pl.DataFrame]]:
    """(number of the first row, frame) for each run of rows of a Parquet file."""
    row = 1
    with open_parquet(path) as file:
        for batch in prefetch(file.iter_batches(PARQUET_ROWS, columns=names)):
            frame = pl.DataFrame(pl.from_arrow(batch))
            yield row, frame
            row += len(frame)
