"""Text files as blocks of whole rows in UTF-8; memory does not grow with the length of the file."""

import codecs
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import polars as pl

from data_pipelines.reading.files import (
    ByteReader,
    binary_format,
    compression_of,
    head_of,
    open_bytes,
    unsupported_format,
    with_article,
)
from data_pipelines.reading.row_ends import count_rows, cut_rows, row_end
from data_pipelines.rules.files import LINES, FileFormat
from recsys.errors import RecsysError

BLOCK_BYTES = 32 << 20
HEAD_BYTES = 1 << 16
MAX_HEADER_BYTES = 16 << 20
MAX_ROW_BYTES = 256 << 20

MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # begins like UTF-16
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


class Block(NamedTuple):
    """Whole rows of a file; `first_row` is the number of the first one, counted from 1."""

    data: bytes
    rows: int
    first_row: int


def read_blocks(
    path: Path, file: FileFormat = LINES, keep_blank_rows: bool = False
) -> Iterator[Block]:
    """Yields blocks of whole rows, without the header line.

    Blank lines at the end of the file are not rows, unless `keep_blank_rows` is set: in a table of
    one column they are missing values.
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
    """A row without an end, for example after a stray quote, must not fill the memory."""
    is_open = file.quote is not None and start.count(file.quote.encode()) % 2 == 1
    return RecsysError(
        "a quoted value has no closing quote" if is_open else "a row is too long",
        where=where,
        expected=None if is_open else f"at most {MAX_ROW_BYTES:,} bytes",
        got=repr(start.lstrip(b"\r\n")[:60].decode(errors="replace")),
        fix=f"correct the row, or set {file.section}.quote=null if quotes have no meaning"
        if is_open
        else "check that the file is text with one line for each row",
    )


def block_lines(block: Block, path: Path, file: FileFormat) -> pl.Series:
    """The lines of a block, without their line ends."""
    try:
        text = block.data.decode()
    except UnicodeDecodeError:
        check_encoding(path, file)
        raise
    return pl.Series("line", [text]).str.strip_suffix("\n").str.split("\n").explode()


def is_json(path: Path, file: FileFormat) -> bool:
    """Whether a file begins with a JSON object."""
    if binary_format(head_of(path)):
        return False
    return first_line(path, file.as_lines()).lstrip().startswith("{")


def first_line(path: Path, file: FileFormat = LINES) -> str:
    """The text of the first row without its line end; a very long one is truncated."""
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
            fix="pass a file with rows",
        )
    if file.quote and line.count(file.quote.encode()) % 2:
        raise _endless_row(line, file, f"{path}, line 1")
    return _decoded_line(line, path, file)


def _decoded_line(line: bytes, path: Path, file: FileFormat) -> str:
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        if error.start < len(line) - 4 or len(line) < MAX_HEADER_BYTES:
            check_encoding(path, file)
        text = line.decode(errors="ignore")
    if "\0" in text:
        raise RecsysError(
            "the first line contains a NUL character",
            where=path,
            got=repr(text[:60]),
            fix=f"if this is UTF-16, set {file.section}.encoding to utf-16-le or utf-16-be",
        )
    return text


def text_chunks(
    path: Path, file: FileFormat, size: int, check_utf8: bool = False
) -> Iterator[bytes]:
    """Yields the text as UTF-8 with line ends LF or CR LF, without a byte order mark.

    UTF-8 input is not copied, and is validated only if `check_utf8` is set: the parser does it.
    """
    with open_bytes(path) as reader:
        head = reader.read(max(size, 8))
        _check_is_text(head, path, reader.kind, file)
        mark, encoding = _mark(head, file, path)
        head = head[len(mark) :] if mark else head
        if encoding == "utf-8" and not check_utf8:
            chunks = _unchanged(head, reader, size)
        else:
            chunks = _decoded(head, reader, encoding, size, f"{file.section}.encoding")
        yield from _with_newlines(chunks)


def check_encoding(path: Path, file: FileFormat) -> None:
    """Raises RecsysError at the first bytes that are not valid in the encoding, if any."""
    for _ in text_chunks(path, file, BLOCK_BYTES, check_utf8=True):
        pass


def _check_is_text(head: bytes, path: Path, compression: str | None, file: FileFormat) -> None:
    """Refuses archives, binary tables and data that is compressed twice."""
    found = binary_format(head)
    if found and not compression:
        raise RecsysError(
            f"this is {with_article(found)} file, not text",
            where=path,
            fix=f"set {file.section}.format={found}",
        )
    found = found or unsupported_format(head) or (compression_of(head) if compression else None)
    if found:
        inside = f" inside {compression}" if compression else ""
        raise RecsysError(
            f"this is {with_article(found)} file{inside}, not text",
            where=path,
            fix="extract it, and pass the file or its folder",
        )


def _mark(head: bytes, file: FileFormat, path: Path) -> tuple[bytes, str]:
    """The byte order mark and its encoding, or no mark and the recipe's encoding."""
    for mark, marked in MARKS:
        if head.startswith(mark):
            return mark, marked
    encoding = file.encoding
    if encoding in ("utf-16", "utf-32") and head:
        raise RecsysError(
            f"the file is not {encoding.upper()} with a byte order mark",
            where=path,
            fix=f"set {file.section}.encoding to {encoding}-le, {encoding}-be or another encoding",
        )
    return b"", encoding


def _unchanged(head: bytes, reader: ByteReader, size: int) -> Iterator[bytes]:
    while head:
        yield head
        head = reader.read(max(size, 8))


def _decoded(
    head: bytes, reader: ByteReader, encoding: str, size: int, key: str
) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(encoding)()
    lines, data = 1, head
    while True:
        try:
            text = decoder.decode(data, final=not data)
        except UnicodeDecodeError as error:
            before = bytes(error.object[: error.start]).decode(encoding, "ignore")
            byte = reader.done - len(error.object) + error.start
            raise RecsysError(
                f"the text is not valid {encoding}",
                where=f"{reader.path}, line {lines + _line_ends(before)}, byte {byte:,} (from 0)",
                expected=f"text in {encoding} ({key})",
                got=f"byte 0x{error.object[error.start]:02x} ({error.reason})",
                fix=f"set {key}, for example latin-1, cp1252 or utf-16-le",
            ) from None
        if text:
            yield text.encode()
            lines += _line_ends(text)
        if not data:
            return
        data = reader.read(size)


def _line_ends(text: str) -> int:
    return text.count("\n") or text.count("\r")


def _with_newlines(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Replaces CR by LF in a file whose first line end is a CR without LF."""
    is_cr: bool | None = None  # not known before the first line end
    held = b""
    for chunk in chunks:
        if is_cr is None:
            chunk, held = held + chunk, b""
            if b"\n" in chunk or chunk.find(b"\r", 0, -1) >= 0:
                is_cr = b"\n" not in chunk
            elif chunk.endswith(b"\r"):  # the next byte may be LF
                chunk, held = chunk[:-1], b"\r"
        if chunk:
            yield chunk.replace(b"\r", b"\n") if is_cr else chunk
    if held:
        yield b"\n"
