"""The salted integer hash of all hashing methods, version 1: splitmix64's finaliser.

    x = id + (salt + 1) · 0x9E3779B97F4A7C15            (mod 2⁶⁴)
    x = (x ^ (x >> 30)) · 0xBF58476D1CE4E5B9
    x = (x ^ (x >> 27)) · 0x94D049BB133111EB
    x =  x ^ (x >> 31)
    row = (x >> 1) mod num_rows

A feature's salt is the first 8 bytes, big-endian, of sha256("recsys/1/" + its name): it depends on
no other feature. Chunk k of it has the salt + k.

Test vectors are in `tests/embeddings/test_hashing.py`; a change here is a new version.
"""

import hashlib
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys.lookup_spec import Hash

HASH_VERSION: Literal[1] = 1
Integers = NDArray[np.integer[Any]]
TEST_IDS = (0, 1, 2, 12345, 2**31 - 1)
_GOLDEN, _MIX_1, _MIX_2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_MASK = 2**64 - 1


def feature_salt(name: str) -> int:
    """The salt of a feature, in [0, 2⁶⁴): equal names have equal salts in every run."""
    digest = hashlib.sha256(f"recsys/{HASH_VERSION}/{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big")


def _signed(value: int) -> int:
    """A 64-bit pattern as torch's int64 holds it."""
    value &= _MASK
    return value - 2**64 if value >= 2**63 else value


def _shift_right(values: Tensor, bits: int) -> Tensor:
    """Logical shift; torch's own >> copies the sign bit in."""
    return (values >> bits) & ((1 << (64 - bits)) - 1)


def hash_rows(ids: Tensor, salt: int, num_rows: int) -> Tensor:
    """Ids (L,) → rows (L,) int64 in [0, num_rows), independent for each salt."""
    return hash_chunks(ids, salt, 1, num_rows)[0]


def hash_chunks(ids: Tensor, salt: int, num_chunks: int, num_rows: int) -> Tensor:
    """Ids (L,) → rows (num_chunks, L) int64; chunk k has the salt `salt` + k."""
    starts = [(salt + chunk + 1) * _GOLDEN & _MASK for chunk in range(num_chunks)]
    if ids.device.type == "cpu" and not torch.compiler.is_compiling():
        return torch.from_numpy(_by_numpy(ids.numpy(), starts, num_rows))
    return _by_torch(ids, starts, num_rows)


def _by_numpy(ids: Integers, starts: Sequence[int], num_rows: int) -> NDArray[np.int64]:
    """On a CPU: numpy has unsigned integers, and divides by a constant without a division."""
    mixed = ids.astype(np.uint64) + np.array(starts, dtype=np.uint64)[:, None]
    shifted = np.empty_like(mixed)
    for bits, factor in ((30, _MIX_1), (27, _MIX_2), (31, 1)):
        np.right_shift(mixed, np.uint64(bits), out=shifted)
        mixed ^= shifted
        mixed *= np.uint64(factor)
    mixed >>= np.uint64(1)
    np.floor_divide(mixed, np.uint64(num_rows), out=shifted)
    shifted *= np.uint64(num_rows)
    mixed -= shifted
    return mixed.view(np.int64)


def _by_torch(ids: Tensor, starts: Sequence[int], num_rows: int) -> Tensor:
    """On any device, and in exported graphs."""
    mixed = ids.long() + torch.tensor([_signed(s) for s in starts], device=ids.device)[:, None]
    mixed = (mixed ^ _shift_right(mixed, 30)) * _signed(_MIX_1)
    mixed = (mixed ^ _shift_right(mixed, 27)) * _signed(_MIX_2)
    mixed = mixed ^ _shift_right(mixed, 31)
    return torch.remainder(_shift_right(mixed, 1), num_rows)


def hash_step(salt: int, num_rows: int) -> Hash:
    """The hash as a step of a rule, with rows to test another implementation with."""
    rows = hash_rows(torch.tensor(TEST_IDS), salt, num_rows).tolist()
    return Hash(
        version=HASH_VERSION,
        salt=f"0x{salt % 2**64:016x}",
        num_rows=num_rows,
        test_vectors=tuple(zip(TEST_IDS, rows, strict=True)),
    )
