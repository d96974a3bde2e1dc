"""Which ids of a feature keep a row: as text for a config, and as row numbers for lookups."""

import base64
import binascii
import zlib

import numpy as np
import torch
from torch import Tensor

from recsys.errors import RecsysError


def pack_ids(is_kept: Tensor) -> str:
    """One bit for each id, (V,) bool → text: base64 of the compressed bits."""
    return pack_bits(torch.from_numpy(np.packbits(is_kept.numpy())))


def pack_bits(bits: Tensor) -> str:
    """Eight ids to a byte, (⌈V/8⌉,) uint8 → the same text."""
    return base64.b64encode(zlib.compress(bits.numpy().tobytes(), 9)).decode()


def unpack_ids(text: str, cardinality: int, where: str) -> Tensor:
    """The bits of `pack_ids`, (V,) bool; text that is not theirs is refused."""
    try:
        content = zlib.decompress(base64.b64decode(text, validate=True))
    except (binascii.Error, zlib.error, ValueError):
        raise RecsysError(
            "the kept ids cannot be read",
            where=where,
            expected="a number of ids, or the text that `recsys search` wrote",
        ) from None
    bits = np.unpackbits(np.frombuffer(content, np.uint8))
    if len(bits) != -(-cardinality // 8) * 8 or bits[cardinality:].any():
        raise RecsysError(
            "the kept ids are those of another feature or data set",
            where=where,
            expected=f"bits for {cardinality} ids",
            got=f"bits for about {len(bits)}",
            fix="run `recsys search` on this data set",
        )
    return torch.from_numpy(bits[:cardinality].astype(np.bool_))


def smallest_dtype(largest: int) -> torch.dtype:
    """The smallest integer type that holds 0 to `largest`."""
    candidates = (torch.uint8, torch.int16, torch.int32)
    return next((t for t in candidates if largest <= torch.iinfo(t).max), torch.int64)
