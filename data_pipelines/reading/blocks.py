"""Raw files as blocks of whole rows: memory holds a few blocks, however long the file is."""

import fnmatch
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import NamedTuple, TypeVar, cast

from data_pipelines.reading.encodings import check_encoding, text_chunks
from data_pipelines.reading.row_ends import count_rows, cut_rows, row_end
from data_pipelines.rules.file_format import LINES, FileFormat
from recsys.errors import RecsysError

BLOCK_BYTES = 32 << 20
HEAD_BYTES = 1 << 16
MAX_HEADER_BYTES = 16 << 20
MAX_ROW_BYTES = 256 << 20

T = TypeVar("T")

Progress = Callable[[str, int, int | None], None]  # (stage, rows done, rows in all)


class Block(NamedTuple):
    """Whole lines of one file; `first_row` counts data rows from 1."""

    data: bytes
    rows: int
    first_row: int


def named(names: list[str]) -> list[str]:
    """The columns' names; those without one, such as a pandas index, are `unnamed_N`."""
    return [name or f"unnamed_{number}" for number, name in enumerate(names, 1)]


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
        else:
            files.append(existing_file(path))
    if not files:
        raise RecsysError(
            "there is no raw file", where=", ".join(map(str, raw)), expected=", ".join(patterns)
        )
    return files


def existing_file(path: Path) -> Path:
    """The path, if it is a regular file; a pipe or a device could not be read twice."""
    if not path.exists():
        raise RecsysError(f"the raw file {path} does not exist", fix="check --raw")
    if not path.is_file():
        raise RecsysError(f"the raw file {path} is not a regular file", fix="check --raw")
    return path


def _natural(path: Path) -> list[tuple[int, str]]:
    return [
        (int(part or -1), "") if part.isdigit() else (-1, part)
        for part in re.split(r"(\d+)", path.name)
    ]


def read_blocks(
    path: Path, file: FileFormat = LINES, keep_blank_rows: bool = False
) -> Iterator[Block]:
    """Blocks that end where a row ends, without the header line.

    Blank lines at the end of the file are no rows, unless `keep_blank_rows` is set, as a table of
    one column needs it.
    """
    rest, row, has_header = b"", 1, file.has_header
    for data in chain(text_chunks(path, file, BLOCK_BYTES), [b""]):
        text = rest + data if rest else data
        block, rest = cut_rows(text, file.quote, is_last=not data, keep_blank=keep_blank_rows)
        if block and has_header:
            block, has_header = block[row_end(block, file.quote) :], False
        if block:
            rows = count_rows(block, file.quote)
            yield Block(block, rows, row)
            row += rows
        if rest and (not data or len(rest) > MAX_ROW_BYTES):
            raise _endless_row(rest, file, f"{path}, data row {row}")


def _endless_row(start: bytes, file: FileFormat, where: str) -> RecsysError:
    """A row that does not end, for example after a stray quote, must not fill the memory."""
    is_open = file.quote is not None and start.count(file.quote.encode()) % 2 == 1
    return RecsysError(
        "a quoted value is not closed" if is_open else "a row is too long",
        where=where,
        expected=None if is_open else f"at most {MAX_ROW_BYTES:,} bytes",
        got=repr(start.lstrip(b"\r\n")[:60].decode(errors="replace")),
        fix=f"correct the row, or set {file.section}.quote=null if quotes are plain characters"
        if is_open
        else "is it text with a line for each row?",
    )


def first_line(path: Path, file: FileFormat = LINES) -> str:
    """The first row's text without its line end, cut off where it is very long."""
    text, end = b"", 0
    for data in text_chunks(path, file, HEAD_BYTES):
        text += data
        end = row_end(text, file.quote)
        if end or len(text) > MAX_HEADER_BYTES:
            break
    line = (text[:end] if end else text).rstrip(b"\r\n")
    if not line:
        raise RecsysError(
            "the first line is empty" if text else "the file is empty",
            where=path,
            fix="give a file with rows",
        )
    if file.quote and line.count(file.quote.encode()) % 2:
        raise _endless_row(line, file, f"{path}, line 1")
    return _decoded_line(line, path, file)


def _decoded_line(line: bytes, path: Path, file: FileFormat) -> str:
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        if error.start < len(line) - 4 or len(line) < MAX_HEADER_BYTES:
            check_encoding(path, file, BLOCK_BYTES)
        text = line.decode(errors="ignore")
    if "\0" in text:
        raise RecsysError(
            "the first line holds a NUL character",
            where=path,
            got=repr(text[:60]),
            fix=f"if this is UTF-16, set {file.section}.encoding to utf-16-le or utf-16-be",
        )
    return text
