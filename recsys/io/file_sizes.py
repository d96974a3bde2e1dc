"""Looks at a file's size before its bytes: endless and padded files are refused at once.

A hash of a sparse file of terabytes would run for hours. What a file may weigh follows from its
format: text is bounded, safetensors and Parquet files say where they end.
"""

import struct
from pathlib import Path

from recsys.errors import RecsysError
from recsys.io.paths import MAX_TEXT_BYTES
from recsys.io.plain_data import parse_json

MAX_HEADER_BYTES = 100 * 2**20  # of safetensors, as its library has it
MAX_ONNX_BYTES = 2**31  # protobuf's own limit
_PARQUET_MAGIC, _ZIP_END = b"PAR1", b"PK\x05\x06"
_ZIP_END_BYTES = 2**16 + 22  # the end record and the longest comment


def check_size(path: Path) -> None:
    """Raises RecsysError if a file is larger than its format and its header allow."""
    size = path.stat().st_size
    match path.suffix:
        case ".safetensors":
            _check_equal(path, size, _safetensors_bytes(path, size))
        case ".parquet":
            _check_tail(path, size, _PARQUET_MAGIC, 4)
        case ".pt2":
            _check_tail(path, size, _ZIP_END, _ZIP_END_BYTES)
        case ".onnx":
            _check_at_most(path, size, MAX_ONNX_BYTES)
        case _:
            _check_at_most(path, size, MAX_TEXT_BYTES)


def _safetensors_bytes(path: Path, size: int) -> int:
    """The size that the header implies: 8 bytes, the header, and the last tensor's end."""
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
        if length > min(size, MAX_HEADER_BYTES):
            raise RecsysError("damaged safetensors header", where=path, got=f"{length:,} bytes")
        header = parse_json(file.read(length), str(path))
    if not isinstance(header, dict):
        raise RecsysError("damaged safetensors header", where=path, expected="a JSON object")
    header.pop("__metadata__", None)
    ends = [_end_of(tensor, path) for tensor in header.values()]
    return 8 + int(length) + max(ends, default=0)


def _end_of(tensor: object, path: Path) -> int:
    try:
        return int(tensor["data_offsets"][1])  # type: ignore[index]  # whatever the JSON holds
    except (KeyError, IndexError, TypeError, ValueError):
        raise RecsysError("damaged safetensors header", where=path, got=str(tensor)[:200]) from None


def _check_equal(path: Path, size: int, expected: int) -> None:
    if size != expected:
        raise RecsysError(
            "the file is cut short or padded",
            where=path,
            expected=f"{expected:,} bytes, as its header says",
            got=f"{size:,} bytes",
        )


def _check_tail(path: Path, size: int, mark: bytes, within: int) -> None:
    with path.open("rb") as file:
        file.seek(max(size - within, 0))
        if mark not in file.read(within):
            raise RecsysError(
                f"the file is cut short or padded: not a whole {path.suffix[1:]} file",
                where=path,
                got=f"{size:,} bytes without its end mark",
            )


def _check_at_most(path: Path, size: int, limit: int) -> None:
    if size > limit:
        raise RecsysError(
            "the file is too large",
            where=path,
            expected=f"at most {limit:,} bytes",
            got=f"{size:,} bytes",
        )
