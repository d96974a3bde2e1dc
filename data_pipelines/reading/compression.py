"""Compressed files as streams of bytes: the kind is recognized by the first bytes, not the name."""

import bz2
import errno
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol, cast

import pyarrow as pa

from data_pipelines.reading.file_kinds import HEAD_BYTES, compression_of
from recsys.errors import RecsysError

CHUNK_BYTES = 1 << 20

# What the decompressors raise for data that is damaged, cut short or of an unknown variant.
DAMAGED = (
    *(EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, NotImplementedError, OSError),
    pa.ArrowException,
)


class ByteReader:
    """The decompressed bytes of one file; a damaged one is a RecsysError."""

    def __init__(self, path: Path, kind: str | None, stream: BinaryIO) -> None:
        self.path, self.kind, self.done = path, kind, 0
        self._stream = stream

    def read(self, size: int) -> bytes:
        """The next `size` bytes, fewer at the end of the file only."""
        try:
            data = self._stream.read(size)
        except DAMAGED as error:
            raise damaged(self.path, self.kind, error, self.done) from None
        self.done += len(data)
        return data


def damaged(path: Path, kind: str | None, error: Exception, done: int = 0) -> Exception:
    """The message for a damaged compressed file; an error of the disk stays what it is."""
    of_disk = isinstance(error, OSError) and error.errno not in (None, errno.EINVAL)
    if kind is None or of_disk:  # EINVAL: a damaged zip archive names a place before its start
        return error
    return RecsysError(
        f"the {kind} file is truncated or damaged",
        where=f"{path}, after {done:,} bytes of content",
        got=str(error).split("\n")[0] or type(error).__name__,
        fix="copy or download it again",
    )


@contextmanager
def open_bytes(path: Path) -> Iterator[ByteReader]:
    """The file's content, decompressed as it is read."""
    with ExitStack() as stack:
        file = stack.enter_context(path.open("rb"))
        kind = compression_of(file.read(HEAD_BYTES))
        file.seek(0)
        try:
            stream = _decompressed(path, kind, file, stack)
        except DAMAGED as error:
            raise damaged(path, kind, error) from None
        yield ByteReader(path, kind, stream)


def _decompressed(path: Path, kind: str | None, file: BinaryIO, stack: ExitStack) -> BinaryIO:
    match kind:
        case None:
            return file
        case "gzip":
            return cast(BinaryIO, stack.enter_context(gzip.open(file)))
        case "zip":
            archive = stack.enter_context(zipfile.ZipFile(file))
            return cast(BinaryIO, stack.enter_context(archive.open(_only_member(archive, path))))
        case "zstd" | "lz4":
            return cast(BinaryIO, stack.enter_context(pa.CompressedInputStream(file, kind)))
    new = bz2.BZ2Decompressor if kind == "bzip2" else lzma.LZMADecompressor
    return cast(BinaryIO, io.BufferedReader(_Members(file, new), CHUNK_BYTES))


def _only_member(archive: zipfile.ZipFile, path: Path) -> zipfile.ZipInfo:
    """The one file of the archive, not counting what macOS adds."""
    files = [
        info
        for info in archive.infolist()
        if not info.is_dir() and not info.filename.startswith("__MACOSX/")
    ]
    if len(files) != 1:
        names = ", ".join(info.filename for info in files[:10])
        raise RecsysError(
            "a zip archive must hold exactly one file",
            where=path,
            got=f"{len(files)} files: {names}" + (", …" if len(files) > 10 else ""),
            fix="unpack it, and give the files or their folder",
        )
    if files[0].flag_bits & 1:
        raise RecsysError("the zip archive is encrypted", where=path, fix="unpack it")
    return files[0]


class _Decompressor(Protocol):
    """What bz2 and lzma share."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class _NewDecompressor(Protocol):
    def __call__(self) -> _Decompressor: ...


class _Members(io.RawIOBase):
    """Compressed streams, one after the other.

    The standard library's readers ignore what follows the first damaged one, which loses rows.
    """

    def __init__(self, file: BinaryIO, new: _NewDecompressor) -> None:
        self._file, self._new = file, new
        self._decompressor = new()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # or a bytearray
        while True:
            data = b""
            if self._decompressor.eof:
                data = self._decompressor.unused_data.lstrip(b"\0") or self._file.read(CHUNK_BYTES)
                if not data.strip(b"\0"):
                    return 0
                self._decompressor = self._new()
            elif self._decompressor.needs_input:
                data = self._file.read(CHUNK_BYTES)
                if not data:
                    raise EOFError("the compressed data ends before its end marker")
            content = self._decompressor.decompress(data, len(buffer))
            if content:
                buffer[: len(content)] = content
                return len(content)
