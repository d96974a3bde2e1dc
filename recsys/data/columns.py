"""Decoded rows as column-major arrays, and the ways to put them in another order."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


class Ragged(NamedTuple):
    """Lists of ids: row i is values[offsets[i]:offsets[i + 1]]."""

    values: Int32s
    offsets: Int64s


class RowGroupColumns(NamedTuple):
    """A row group as decoded: one array a column, in schema order."""

    ids: list[Int32s]
    sequences: list[Ragged]
    dense: list[Floats]
    labels: Floats
    group_ids: Int64s | None


class WindowColumns(NamedTuple):
    """n rows in their final order: a batch is made of slices of these.

    ids: (categorical features, n). dense: (n, N). labels: (n,). group_ids: (n,).
    """

    ids: Int32s
    sequences: list[Ragged]
    dense: Floats
    labels: Floats
    group_ids: Int64s | None


Part = tuple[RowGroupColumns, int, int]


def gather_window(parts: Sequence[Part], order: Int64s) -> WindowColumns:
    """The rows [start, stop) of each (columns, start, stop), laid end to end, then permuted."""
    first = parts[0][0]
    ids = np.empty((len(first.ids), len(order)), np.int32)
    for feature, row in enumerate(ids):
        column = _concatenate([part.ids[feature][start:stop] for part, start, stop in parts])
        np.take(column, order, out=row, mode="clip")
    dense = np.empty((len(order), len(first.dense)), np.float32)
    for feature in range(len(first.dense)):
        column = _concatenate([part.dense[feature][start:stop] for part, start, stop in parts])
        dense[:, feature] = column[order]
    sequences = [
        take_ragged(_concatenate_ragged(parts, feature), order)
        for feature in range(len(first.sequences))
    ]
    labels = _concatenate([part.labels[start:stop] for part, start, stop in parts])[order]
    if first.group_ids is None:
        return WindowColumns(ids, sequences, dense, labels, None)
    groups = [part.group_ids[start:stop] for part, start, stop in parts]  # type: ignore[index]  # all or none
    return WindowColumns(ids, sequences, dense, labels, _concatenate(groups)[order])


def take_ragged(lists: Ragged, order: Int64s) -> Ragged:
    """The lists at `order`, without a loop over rows."""
    lengths = np.diff(lists.offsets)[order]
    offsets = np.zeros(len(order) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    shifts = np.repeat(lists.offsets[:-1][order] - offsets[:-1], lengths)
    return Ragged(lists.values[shifts + np.arange(offsets[-1])], offsets)


def _concatenate(arrays: list[npt.NDArray]) -> npt.NDArray:  # type: ignore[type-arg]  # any
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _concatenate_ragged(parts: Sequence[Part], feature: int) -> Ragged:
    values, lengths = [], []
    for part, start, stop in parts:
        lists = part.sequences[feature]
        values.append(lists.values[lists.offsets[start] : lists.offsets[stop]])
        lengths.append(np.diff(lists.offsets[start : stop + 1]))
    offsets = np.concatenate([[0], np.cumsum(np.concatenate(lengths))])
    return Ragged(_concatenate(values), offsets)
