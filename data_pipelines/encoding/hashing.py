"""hash64, version 1, of a text: FNV-1a over its UTF-8 bytes, then the finalizer of splitmix64.

    h = 0xcbf29ce484222325;  for each byte b:  h = (h ^ b) * 0x100000001b3        (mod 2^64)
    h = (h ^ h >> 30) * 0xbf58476d1ce4e5b9;  h = (h ^ h >> 27) * 0x94d049bb133111eb;  h ^= h >> 31

Test vectors: "" → 0xf52a15e9a9b5e89b, "a" → 0x02c0bdbf481420f8, "05db9164" → 0xc5c40d792f1ede57.
A change of the rule needs a new version number; prepared datasets name their version.
"""

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

UInt64s = NDArray[np.uint64]

FNV_OFFSET = np.uint64(0xCBF29CE484222325)
FNV_PRIME = np.uint64(0x100000001B3)


def finalize(hashes: UInt64s) -> UInt64s:
    """The finalizer of splitmix64: each input bit affects all output bits."""
    hashes = (hashes ^ (hashes >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    hashes = (hashes ^ (hashes >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return hashes ^ (hashes >> np.uint64(31))


def hash64_text(values: pl.Series) -> UInt64s:
    """hash64 of the UTF-8 bytes of each text, (rows,) uint64; null like empty text.

    >>> hex(hash64_text(pl.Series(["05db9164"]))[0])
    '0xc5c40d792f1ede57'
    """
    texts = values.fill_null("").to_arrow(compat_level=pl.CompatLevel.oldest())
    texts = texts.cast(pa.large_binary())
    _, offset_buffer, data_buffer = texts.buffers()
    offsets = np.frombuffer(offset_buffer, np.int64)[texts.offset :][: len(texts) + 1]
    data = np.frombuffer(data_buffer or b"", np.uint8)
    lengths = np.diff(offsets)
    hashes = np.full(len(texts), FNV_OFFSET)
    for position in range(int(lengths.max(initial=0))):
        rows = np.flatnonzero(lengths > position)
        hashes[rows] = (hashes[rows] ^ data[offsets[rows] + position]) * FNV_PRIME
    return finalize(hashes)


def hash_distinct(values: pl.Series) -> UInt64s:
    """Equal to `hash64_text`; faster for repeated values, since each is hashed once."""
    values = values.alias("value")  # some methods interpret the name as a pattern
    distinct = values.unique()
    table = pl.DataFrame({"value": distinct, "hash": hash64_text(distinct)})
    joined = values.to_frame("value").join(
        table, on="value", how="left", nulls_equal=True, maintain_order="left"
    )
    return joined["hash"].to_numpy()
