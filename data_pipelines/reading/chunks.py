"""Chunks of rows with their canonical columns, as all readers give them."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar, cast

import polars as pl

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
