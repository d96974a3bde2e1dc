"""Raw files: found by path, recognized by their first bytes, opened as decompressed bytes."""

import bz2
import errno
import gzip
import io
import lzma
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import pyarrow as pa

from recsys.errors import RecsysError

_Decompressor = bz2.BZ2Decompressor | lzma.LZMADecompressor

CHUNK_BYTES = 1 << 20
HEAD_BYTES = 512

FORMAT_NAMES = {"parquet": "Parquet", "arrow": "Arrow", "orc": "ORC"}
ARROW_STREAM, FEATHER_V1 = b"\xff\xff\xff\xff", b"FEA1"

_ZSTD_SKIPPABLE = tuple(bytes([first]) + b"\x2a\x4d\x18" for first in range(0x50, 0x60))
_BZIP2 = tuple(
    b"BZh%d" % level + block
    for level in range(1, 10)
    for block in (b"1AY&SY", b"\x17\x72\x45\x38\x50\x90")
)
COMPRESSIONS: dict[str, tuple[bytes, ...]] = {
    "gzip": (b"\x1f\x8b",),
    "bzip2": _BZIP2,
    "xz": (b"\xfd7zXZ\0",),
    "zstd": (b"\x28\xb5\x2f\xfd", *_ZSTD_SKIPPABLE),
    "lz4": (b"\x04\x22\x4d\x18",),
    "zip": (b"PK\x03\x04", b"PK\x05\x06"),
}
UNSUPPORTED: dict[str, bytes] = {
    "7z": b"7z\xbc\xaf\x27\x1c",
    "RAR": b"Rar!\x1a\x07",
    "compress (.Z)": b"\x1f\x9d",
    "HDF5": b"\x89HDF\r\n\x1a\n",
    "SQLite": b"SQLite format 3\0",
    "NumPy": b"\x93NUMPY",
}
# Raised by decompressors for data that is damaged, truncated or of an unknown variant.
DAMAGED = (
    *(EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, NotImplementedError, OSError),
    pa.ArrowException,
)


def expand_paths(raw: list[Path]) -> list[Path]:
    """Returns the raw files; folders are replaced by their files, day_2 before day_10."""
    files: list[Path] = []
    for path in raw:
        if path.is_dir():
            inside = [p for p in path.iterdir() if p.is_file() and not p.name.startswith(".")]
            files += sorted(inside, key=_natural)
        else:
            files.append(existing_file(path))
    if not files:
        raise RecsysError("no raw file found", where=", ".join(map(str, raw)))
    return files


def existing_file(path: Path) -> Path:
    """Returns the path if it is a regular file: a pipe or a device cannot be read twice."""
    if not path.exists():
        raise RecsysError(f"raw file {path} not found", fix="check --raw")
    if not path.is_file():
        raise RecsysError(f"raw file {path} is not a regular file", fix="check --raw")
    return path


def _natural(path: Path) -> list[tuple[int, str]]:
    return [
        (int(part or -1), "") if part.isdigit() else (-1, part)
        for part in re.split(r"(\d+)", path.name)
    ]


def head_of(path: Path) -> bytes:
    """Returns the first bytes of a file."""
    with path.open("rb") as stream:
        return stream.read(HEAD_BYTES)


def compression_of(head: bytes) -> str | None:
    """The kind of compression, by the first bytes of a file."""
    return next((kind for kind, magic in COMPRESSIONS.items() if head.startswith(magic)), None)


def binary_format(head: bytes) -> str | None:
    """`parquet`, `arrow`, `orc` or None, by the first bytes; text may begin similarly."""
    if head[:4] in (b"PAR1", b"PARE") and head[4:5] < b" ":
        return "parquet"
    if head[:8] == b"ARROW1\0\0" or head[:4] in (FEATHER_V1, ARROW_STREAM):
        return "arrow"
    return "orc" if head[:3] == b"ORC" and head[3:4] < b" " else None


def unsupported_format(head: bytes) -> str | None:
    """The name of a file format that is not supported, or None."""
    if head[257:262] == b"ustar":
        return "tar"
    return next((name for name, magic in UNSUPPORTED.items() if head.startswith(magic)), None)


def with_article(kind: str) -> str:
    """The name of a format with its article.

    >>> with_article("arrow")
    'an Arrow'
    """
    name = FORMAT_NAMES.get(kind, kind)
    return f"{'an' if name[:1] in 'AOx' else 'a'} {name}"


class ByteReader:
    """The decompressed bytes of a file; if it is damaged, `read` raises RecsysError."""

    def __init__(self, path: Path, kind: str | None, stream: BinaryIO) -> None:
        self.path, self.kind, self.done = path, kind, 0
        self._stream = stream

    def read(self, size: int) -> bytes:
        """Returns the next `size` bytes; fewer only at the end of the file."""
        try:
            data = self._stream.read(size)
        except DAMAGED as error:
            raise damaged(self.path, self.kind, error, self.done) from None
        self.done += len(data)
        return data


def damaged(path: Path, kind: str | None, error: Exception, done: int = 0) -> Exception:
    """The error for a damaged compressed file; errors of the disk are returned unchanged."""
    of_disk = isinstance(error, OSError) and error.errno not in (None, errno.EINVAL)
    if kind is None or of_disk:  # EINVAL: a damaged zip archive seeks before its start
        return error
    return RecsysError(
        f"the {kind} file is truncated or damaged",
        where=f"{path}, after {done:,} bytes of content",
        got=str(error).split("\n")[0] or type(error).__name__,
        fix="copy or download it again",
    )


@contextmanager
def open_bytes(path: Path) -> Iterator[ByteReader]:
    """Opens a file whose content is decompressed while it is read."""
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
    """The only file of the archive, apart from the folder that macOS adds."""
    files = [
        info
        for info in archive.infolist()
        if not info.is_dir() and not info.filename.startswith("__MACOSX/")
    ]
    if len(files) != 1:
        names = ", ".join(info.filename for info in files[:10])
        raise RecsysError(
            "a zip archive must contain exactly one file",
            where=path,
            got=f"{len(files)} files: {names}" + (", …" if len(files) > 10 else ""),
            fix="extract it, and pass the files or their folder",
        )
    if files[0].flag_bits & 1:
        raise RecsysError("the zip archive is encrypted", where=path, fix="extract it")
    return files[0]


class _Members(io.RawIOBase):
    """Concatenated compressed streams.

    The readers of the standard library ignore all data after a damaged stream, which loses rows.
    """

    def __init__(self, file: BinaryIO, new: Callable[[], _Decompressor]) -> None:
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
