"""What kind of file it is, by its first bytes: names are not trusted."""

from pathlib import Path

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
NO_TABLES: dict[str, bytes] = {
    "7z": b"7z\xbc\xaf\x27\x1c",
    "RAR": b"Rar!\x1a\x07",
    "compress (.Z)": b"\x1f\x9d",
    "HDF5": b"\x89HDF\r\n\x1a\n",
    "SQLite": b"SQLite format 3\0",
    "NumPy": b"\x93NUMPY",
}


def head_of(path: Path) -> bytes:
    """The first bytes of a file."""
    with path.open("rb") as stream:
        return stream.read(HEAD_BYTES)


def compression_of(head: bytes) -> str | None:
    """The kind of compression that the first bytes of a file show."""
    return next((kind for kind, magic in COMPRESSIONS.items() if head.startswith(magic)), None)


def binary_format(head: bytes) -> str | None:
    """`parquet`, `arrow` or `orc` if the first bytes show one of them; text may start alike."""
    if head[:4] in (b"PAR1", b"PARE") and head[4:5] < b" ":
        return "parquet"
    if head[:8] == b"ARROW1\0\0" or head[:4] in (FEATHER_V1, ARROW_STREAM):
        return "arrow"
    return "orc" if head[:3] == b"ORC" and head[3:4] < b" " else None


def other_kind(head: bytes) -> str | None:
    """The name of a kind of file that is neither text nor one of the formats that are read."""
    if head[257:262] == b"ustar":
        return "tar"
    return next((name for name, magic in NO_TABLES.items() if head.startswith(magic)), None)


def with_article(kind: str) -> str:
    """`a gzip`, `an Arrow`; formats by their own names."""
    name = FORMAT_NAMES.get(kind, kind)
    return f"{'an' if name[:1] in 'AOx' else 'a'} {name}"
