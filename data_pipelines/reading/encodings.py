"""Text of any encoding as chunks of UTF-8; UTF-8 itself passes as it is, without a copy."""

import codecs
from collections.abc import Iterator
from pathlib import Path

from data_pipelines.reading.compression import ByteReader, open_bytes
from data_pipelines.reading.file_kinds import (
    binary_format,
    compression_of,
    other_kind,
    with_article,
)
from data_pipelines.rules.file_format import FileFormat
from recsys.errors import RecsysError

MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # starts with UTF-16's
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def text_chunks(
    path: Path, file: FileFormat, size: int, check_utf8: bool = False
) -> Iterator[bytes]:
    """The file's text as UTF-8 with line ends LF or CR LF, without a byte order mark.

    Bytes that are already UTF-8 are only checked if `check_utf8` is set: the parser checks them.
    """
    with open_bytes(path) as reader:
        head = reader.read(max(size, 8))
        _refuse_other(head, path, reader.kind, file)
        mark, encoding = _mark(head, file, path)
        head = head[len(mark) :] if mark else head
        if encoding == "utf-8" and not check_utf8:
            chunks = _as_they_are(head, reader, size)
        else:
            chunks = _decoded(head, reader, encoding, size, f"{file.section}.encoding")
        yield from _with_newlines(chunks)


def check_encoding(path: Path, file: FileFormat, size: int) -> None:
    """Raises RecsysError at the first bytes that are not text in the encoding, if there are any."""
    for _ in text_chunks(path, file, size, check_utf8=True):
        pass


def _refuse_other(head: bytes, path: Path, compression: str | None, file: FileFormat) -> None:
    """Content that is an archive, a binary table or compressed once more is no text."""
    found = binary_format(head)
    if found and not compression:
        raise RecsysError(
            f"this is {with_article(found)} file, not text",
            where=path,
            fix=f"set {file.section}.format={found}",
        )
    found = found or other_kind(head) or (compression_of(head) if compression else None)
    if found:
        inside = f" inside {compression}" if compression else ""
        raise RecsysError(
            f"this is {with_article(found)} file{inside}, not text",
            where=path,
            fix="unpack it, and give the file or its folder",
        )


def _mark(head: bytes, file: FileFormat, path: Path) -> tuple[bytes, str]:
    """The byte order mark, and the encoding that it shows, or else the one that was given."""
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


def _as_they_are(head: bytes, reader: ByteReader, size: int) -> Iterator[bytes]:
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
                f"the text is not {encoding}",
                where=f"{reader.path}, line {lines + _line_ends(before)}, byte {byte:,} (from 0)",
                expected=f"text in {key}, which is {encoding}",
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
    """A file whose first line end is a lone CR gets LF for all CR."""
    is_cr: bool | None = None  # not known before the first line end
    held = b""
    for chunk in chunks:
        if is_cr is None:
            chunk, held = held + chunk, b""
            if b"\n" in chunk or chunk.find(b"\r", 0, -1) >= 0:
                is_cr = b"\n" not in chunk
            elif chunk.endswith(b"\r"):  # is LF the next byte?
                chunk, held = chunk[:-1], b"\r"
        if chunk:
            yield chunk.replace(b"\r", b"\n") if is_cr else chunk
    if held:
        yield b"\n"
