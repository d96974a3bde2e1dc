"""Raw files as blocks of whole rows: memory holds a few blocks, however long the file is."""

import fnmatch
import gzip
import re
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeVar, cast

from recsys.errors import RecsysError

BLOCK_BYTES = 32 << 20

T = TypeVar("T")

Progress = Callable[[str, int, int | None], None]  # (stage, rows done, rows in all)


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
    """The file's bytes, decompressed when its first two bytes (not its name) say gzip."""
    with path.open("rb") as stream:
        is_gzip = stream.read(2) == b"\x1f\x8b"
    return cast(BinaryIO, gzip.open(path)) if is_gzip else path.open("rb")


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


def first_line(path: Path) -> bytes:
    """The first line without its end; an empty file has none."""
    try:
        with open_text(path) as stream:
            line = stream.readline()
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise RecsysError("the gzip file is truncated or damaged", where=path, got=error) from None
    if not line.strip(b"\r\n"):
        raise RecsysError("the file is empty", where=path, fix="give a file with rows")
    return line.removeprefix(b"\xef\xbb\xbf").rstrip(b"\r\n")
