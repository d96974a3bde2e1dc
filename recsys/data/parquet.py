"""RowGroups: the Parquet files of one split, checked and decoded one row group at a time.

Decoded rows are column-major arrays; `gather_window` puts them in their final order.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from recsys.data.checks import (
    Floats,
    Int32s,
    Int64s,
    Place,
    check_filled,
    check_finite,
    check_ids,
    check_labels,
    check_types,
)
from recsys.data.readable import readable
from recsys.errors import RecsysError
from recsys.io.paths import file_inside
from recsys.schema import DataFile, Feature, Schema


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


class OpenFile(NamedTuple):
    """A Parquet file whose footer has been read and agrees with the schema."""

    path: Path
    footer: pq.FileMetaData


class RowGroup(NamedTuple):
    """Row group `number` of a file; its first row is row `first_row` of the file, from 0."""

    file: OpenFile
    number: int
    first_row: int
    rows: int


class RowGroups:
    """The row groups of a split in file order; `read` decodes one. Any thread may call it."""

    def __init__(self, dataset_dir: Path, schema: Schema, split: str) -> None:
        self.schema = schema
        files = schema.split(split).files
        if not sum(file.rows for file in files):
            raise RecsysError(
                f"the split {split!r} has no rows",
                where=dataset_dir,
                fix="prepare the dataset with another split, or name another split",
            )
        self.groups = [
            group for file in files for group in _row_groups(_open(dataset_dir, file, schema))
        ]
        self.columns = [feature.name for feature in schema.features] + [schema.label]
        if schema.group is not None and schema.group not in self.columns:
            self.columns.append(schema.group)

    def read(self, number: int) -> RowGroupColumns:
        """Decodes row group `number` of the split and checks every value that it holds."""
        group = self.groups[number]
        path, footer = group.file
        with readable(path), _parquet(path, footer) as file:
            table = file.read_row_group(group.number, columns=self.columns, use_threads=False)
        schema, place = self.schema, Place(path, group.first_row)
        return RowGroupColumns(
            ids=[_ids(table, feature, place) for feature in schema.of_kind("categorical")],
            sequences=[_lists(table, feature, place) for feature in schema.of_kind("sequence")],
            dense=[_floats(table, feature, place) for feature in schema.numerical],
            labels=_labels(table, schema.label, place),
            group_ids=None if schema.group is None else _group_ids(table, schema.group, place),
        )


def _open(dataset_dir: Path, file: DataFile, schema: Schema) -> OpenFile:
    path = dataset_dir / file.path
    with readable(path):
        path = file_inside(dataset_dir, file.path)
    with readable(path), pq.ParquetFile(path) as opened:
        check_types(opened.schema_arrow, schema, path)
        footer = opened.metadata
    if footer.num_rows != file.rows:
        raise RecsysError(
            "the number of rows differs from the schema",
            where=path,
            expected=file.rows,
            got=footer.num_rows,
            fix="the file was replaced after `recsys prepare`; prepare the dataset again",
        )
    return OpenFile(path, footer)


def _parquet(path: Path, footer: pq.FileMetaData) -> pq.ParquetFile:
    """Pages that carry a checksum, as `recsys prepare` writes them, are compared with it."""
    return pq.ParquetFile(path, metadata=footer, page_checksum_verification=True)


def _row_groups(file: OpenFile) -> Iterator[RowGroup]:
    first_row = 0
    for index in range(file.footer.num_row_groups):
        rows = file.footer.row_group(index).num_rows
        yield RowGroup(file, index, first_row, rows)
        first_row += rows


def _column(table: pa.Table, name: str, place: Place) -> pa.Array:
    """One pyarrow array without missing values."""
    column = table.column(name)
    check_filled(column, name, place)
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _ids(table: pa.Table, feature: Feature, place: Place) -> Int32s:
    ids: Int32s = _column(table, feature.name, place).to_numpy()
    check_ids(ids, feature, place)
    return ids


def _lists(table: pa.Table, feature: Feature, place: Place) -> Ragged:
    column = _column(table, feature.name, place)
    offsets = column.offsets.to_numpy().astype(np.int64)
    values = column.values.slice(offsets[0], offsets[-1] - offsets[0])
    offsets -= offsets[0]
    check_filled(values, feature.name, place, offsets)
    ids: Int32s = values.to_numpy()
    check_ids(ids, feature, place, offsets)
    return Ragged(ids, offsets)


def _floats(table: pa.Table, feature: Feature, place: Place) -> Floats:
    values: Floats = _column(table, feature.name, place).to_numpy()
    check_finite(values, feature, place)
    return values


def _labels(table: pa.Table, name: str, place: Place) -> Floats:
    labels: npt.NDArray[np.generic] = _column(table, name, place).to_numpy(zero_copy_only=False)
    check_labels(labels, name, place)
    return labels.astype(np.float32)


def _group_ids(table: pa.Table, name: str, place: Place) -> Int64s:
    group_ids: npt.NDArray[np.generic] = _column(table, name, place).to_numpy()
    return group_ids.astype(np.int64)


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
