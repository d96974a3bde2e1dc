"""Chunks of rows with their canonical columns, as all readers give them."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar, cast

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from recsys.errors import RecsysError

T = TypeVar("T")

Dtypes = dict[str, pl.DataType]
NumberedFrame = tuple[int, pl.DataFrame]  # the data row number of the first row, from 1; the rows


def prefetch(items: Iterator[T]) -> Iterator[T]:
    """Yields the items; a background thread makes the next one while one is in use."""
    end = object()
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(next, items, end)
        while (item := pending.result()) is not end:
            pending = pool.submit(next, items, end)
            yield cast(T, item)


def fill_names(names: list[str]) -> list[str]:
    """Names columns without a name, such as a pandas index, `unnamed_N`.

    >>> fill_names(["", "price"])
    ['unnamed_1', 'price']
    """
    return [name or f"unnamed_{number}" for number, name in enumerate(names, 1)]


def check_unique(names: list[str], where: object, fix: str | None = None) -> list[str]:
    """Returns the column names; a duplicate is an error."""
    for name in names:
        if names.count(name) > 1:
            raise RecsysError(f"duplicate column name {name!r}", where=where, fix=fix)
    return names


def make_lists(items: pl.Series, lengths: NDArray[np.integer]) -> pl.Series:
    """Lists with the given lengths, (rows,), of consecutive items."""
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    values = items.to_arrow(compat_level=pl.CompatLevel.oldest())
    return pl.Series(pl.from_arrow(pa.LargeListArray.from_arrays(offsets, values)))
