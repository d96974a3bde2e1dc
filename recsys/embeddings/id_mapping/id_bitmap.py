"""The ids of a feature that keep a row, one bit for each: a tensor, or text in older configs."""

import base64
import binascii
import zlib

import numpy as np
import torch
from torch import Tensor

from recsys.errors import RecsysError


def pack_bits(is_kept: Tensor) -> Tensor:
    """(V,) bool → (⌈V/8⌉,) uint8, eight ids to a byte, the first id in the highest bit."""
    return torch.from_numpy(np.packbits(is_kept.numpy()))


def unpack_bits(packed: Tensor, cardinality: int, where: str) -> Tensor:
    """The ids of `pack_bits`, (V,) bool; refuses the bits of another number of ids."""
    bits = np.unpackbits(packed.numpy())
    if len(bits) != -(-cardinality // 8) * 8 or bits[cardinality:].any():
        raise RecsysError(
            "the kept ids are those of another feature or dataset",
            where=where,
            expected=f"bits for {cardinality} ids",
            got=f"bits for about {len(bits)}",
            fix="run `recsys search` on this dataset",
        )
    return torch.from_numpy(bits[:cardinality].astype(np.bool_))


def unpack_ids(text: str, cardinality: int, where: str) -> Tensor:
    """The same from the base64 of compressed bits, which configs of older runs have; (V,) bool."""
    try:
        content = zlib.decompress(base64.b64decode(text, validate=True))
    except (binascii.Error, zlib.error, ValueError):
        raise RecsysError(
            "the kept ids cannot be read",
            where=where,
            expected="a number of ids, or the text that `recsys search` has written",
        ) from None
    bits = np.frombuffer(content, np.uint8).copy()
    return unpack_bits(torch.from_numpy(bits), cardinality, where)


def smallest_dtype(largest: int) -> torch.dtype:
    """The smallest integer type that holds 0 to `largest`."""
    candidates = (torch.uint8, torch.int16, torch.int32)
    return next((t for t in candidates if largest <= torch.iinfo(t).max), torch.int64)
