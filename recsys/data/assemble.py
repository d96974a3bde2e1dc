"""BatchAssembler: slices of decoded windows → one Batch; memory copies only."""

from collections.abc import Iterator, Sequence
from itertools import accumulate, groupby
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from recsys.data.batch import Batch, Cursor
from recsys.data.checks import Int32s
from recsys.data.jagged_ids import JaggedIds
from recsys.data.parquet import WindowColumns
from recsys.schema import Schema

Part = tuple[WindowColumns, int, int]


class Run(NamedTuple):
    """Neighbouring sparse features of one kind: number `start` to `stop` of that kind."""

    kind: str
    start: int
    stop: int


class Lengths(NamedTuple):
    """The lengths of JaggedIds and all that follows from them, so that nothing is recomputed."""

    lengths: Tensor
    offsets: Tensor
    per_key: list[int]
    offset_per_key: list[int]


class BatchAssembler:
    """Lays the parts of a batch end to end in freshly allocated tensors."""

    def __init__(self, schema: Schema) -> None:
        self.keys = [feature.name for feature in schema.sparse]
        self.num_dense = len(schema.numerical)
        self.has_groups = schema.group is not None
        self.runs = list(_runs([feature.kind for feature in schema.sparse]))
        self.all_single = all(run.kind == "categorical" for run in self.runs)
        self._ones: dict[int, Lengths] = {}

    def assemble(self, parts: Sequence[Part], cursor: Cursor, global_rows: int) -> Batch:
        """The rows [start, stop) of each (columns, start, stop), in this order."""
        rows = sum(stop - start for _, start, stop in parts)
        dense = np.empty((rows, self.num_dense), np.float32)
        labels = np.empty(rows, np.float32)
        group_ids = np.empty(rows, np.int64) if self.has_groups else None
        at = 0
        for columns, start, stop in parts:
            end = at + stop - start
            dense[at:end] = columns.dense[start:stop]
            labels[at:end] = columns.labels[start:stop]
            if group_ids is not None:
                group_ids[at:end] = columns.group_ids[start:stop]  # type: ignore[index]  # has_groups
            at = end
        return Batch(
            dense=torch.from_numpy(dense),
            sparse=self._sparse(parts, rows),
            labels=torch.from_numpy(labels),
            cursor=cursor,
            global_rows=global_rows,
            group_ids=None if group_ids is None else torch.from_numpy(group_ids),
        )

    def _sparse(self, parts: Sequence[Part], rows: int) -> JaggedIds:
        lengths = self._single_lengths(rows) if self.all_single else self._lengths(parts, rows)
        values = np.empty(lengths.offset_per_key[-1], np.int32)
        key = 0
        for run in self.runs:
            at = lengths.offset_per_key[key]
            if run.kind == "categorical":
                _copy_ids(values, at, parts, run, rows)
            else:
                _copy_lists(values, at, parts, run)
            key += run.stop - run.start
        return JaggedIds(
            keys=self.keys,
            values=torch.from_numpy(values),
            lengths=lengths.lengths,
            offsets=lengths.offsets,
            stride=rows,
            length_per_key=lengths.per_key,
            offset_per_key=lengths.offset_per_key,
        )

    def _single_lengths(self, rows: int) -> Lengths:
        """One id for every row and feature: the same for all batches of a size, so made once."""
        if rows not in self._ones:
            self._ones[rows] = _as_lengths(np.ones((len(self.keys), rows), np.int32))
        return self._ones[rows]

    def _lengths(self, parts: Sequence[Part], rows: int) -> Lengths:
        lengths = np.ones((len(self.keys), rows), np.int32)
        key = 0
        for run in self.runs:
            for number in range(run.start, run.stop):
                if run.kind == "sequence":
                    _copy_lengths(lengths[key], parts, number)
                key += 1
        return _as_lengths(lengths)


def _runs(kinds: Sequence[str]) -> Iterator[Run]:
    seen = {"categorical": 0, "sequence": 0}
    for kind, group in groupby(kinds):
        start = seen[kind]
        seen[kind] += len(list(group))
        yield Run(kind, start, seen[kind])


def _as_lengths(lengths: npt.NDArray[np.int32]) -> Lengths:
    """From lengths (F, B)."""
    offsets = np.zeros(lengths.size + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    per_key: list[int] = lengths.sum(axis=1).tolist()
    return Lengths(
        lengths=torch.from_numpy(lengths.reshape(-1)),
        offsets=torch.from_numpy(offsets),
        per_key=per_key,
        offset_per_key=[0, *accumulate(per_key)],
    )


def _copy_ids(values: Int32s, at: int, parts: Sequence[Part], run: Run, rows: int) -> None:
    features = run.stop - run.start
    block = values[at : at + features * rows].reshape(features, rows)
    first = 0
    for columns, start, stop in parts:
        last = first + stop - start
        block[:, first:last] = columns.ids[run.start : run.stop, start:stop]
        first = last


def _copy_lists(values: Int32s, at: int, parts: Sequence[Part], run: Run) -> None:
    for number in range(run.start, run.stop):
        for columns, start, stop in parts:
            lists = columns.sequences[number]
            low, high = lists.offsets[start], lists.offsets[stop]
            values[at : at + high - low] = lists.values[low:high]
            at += high - low


def _copy_lengths(lengths: Int32s, parts: Sequence[Part], number: int) -> None:
    at = 0
    for columns, start, stop in parts:
        offsets = columns.sequences[number].offsets[start : stop + 1]
        lengths[at : at + stop - start] = np.diff(offsets)
        at += stop - start
