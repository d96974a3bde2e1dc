"""The salted integer hash of all hashing methods, version 1: splitmix64's finaliser.

    x = id + (salt + 1) · 0x9E3779B97F4A7C15            (mod 2⁶⁴)
    x = (x ^ (x >> 30)) · 0xBF58476D1CE4E5B9
    x = (x ^ (x >> 27)) · 0x94D049BB133111EB
    x =  x ^ (x >> 31)
    row = (x >> 1) mod num_rows

Test vectors are in `tests/embeddings/test_hashing.py`; a change here is a new version.
"""

import torch
from torch import Tensor

HASH_VERSION = 1
_GOLDEN, _MIX_1, _MIX_2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def _signed(value: int) -> int:
    """A 64-bit pattern as torch's int64 holds it."""
    value &= 2**64 - 1
    return value - 2**64 if value >= 2**63 else value


def _shift_right(values: Tensor, bits: int) -> Tensor:
    """Logical shift; torch's own >> copies the sign bit in."""
    return (values >> bits) & ((1 << (64 - bits)) - 1)


def hash_rows(ids: Tensor, salt: int, num_rows: int) -> Tensor:
    """Ids (L,) → rows (L,) int64 in [0, num_rows), independent for each salt."""
    mixed = ids.long() + _signed((salt + 1) * _GOLDEN)
    mixed = (mixed ^ _shift_right(mixed, 30)) * _signed(_MIX_1)
    mixed = (mixed ^ _shift_right(mixed, 27)) * _signed(_MIX_2)
    mixed = mixed ^ _shift_right(mixed, 31)
    return torch.remainder(_shift_right(mixed, 1), num_rows)
