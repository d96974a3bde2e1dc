"""The first pass: all rows as compact codes in temporary files, so that text is parsed once."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from data_pipelines.encoding.encoders import FeatureEncoder
from data_pipelines.encoding.hashing import hash_distinct
from data_pipelines.encoding.labels import apply_label
from data_pipelines.reading.chunks import Dtypes, prefetch
from data_pipelines.recipe import Recipe
from data_pipelines.source import Source
from recsys.errors import RecsysError


class RawChunk(NamedTuple):
    """The canonical columns of some rows of a file."""

    path: Path
    frame: pl.DataFrame
    dropped: int = 0  # the number of rows dropped by `label.rule`


def read_chunks(
    source: Source, recipe: Recipe, raw: list[Path], dtypes: Dtypes
) -> Iterator[RawChunk]:
    """Yields all rows of the raw files in order, with `label` if there is a label column."""
    for path in source.files(raw):
        rows = 0
        labeled = recipe.label.column in dtypes
        for first_row, frame in prefetch(source.read(recipe, path, dtypes)):
            rows += len(frame)
            read = len(frame)
            if labeled:
                frame = apply_label(frame, recipe.label, path, first_row)
            yield RawChunk(path, frame, read - len(frame))
        if not rows:
            raise RecsysError("the file has no data rows", where=path)


def group_ids(values: pl.Series) -> pl.Series:
    """The int64 ids of groups: hash64 of the text without the highest bit; 0 if missing."""
    values = values.alias("group_id")  # some methods interpret the name as a pattern
    hashes = (hash_distinct(values) >> np.uint64(1)).astype(np.int64)
    return pl.Series("group_id", hashes * values.is_not_null().to_numpy())


def write_arrow(frame: pl.DataFrame, path: Path) -> None:
    """Writes a frame as an Arrow file."""
    table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)


def read_arrow(path: Path, columns: list[str] | None = None) -> pl.DataFrame:
    """Reads a frame, or some of its columns, into memory (not mapped)."""
    with pa.OSFile(str(path), "rb") as file:
        names = pa.ipc.open_file(file).schema.names
        fields = [names.index(c) for c in columns] if columns is not None else None
        options = pa.ipc.IpcReadOptions(included_fields=fields)
        table = pa.ipc.open_file(file, options=options).read_all()
    return pl.DataFrame(pl.from_arrow(table))


@dataclass
class Staged:
    """The codes of all rows, in chunks on disk; labels and keys of splits, in memory."""

    folder: Path
    chunk_rows: list[int] = field(default_factory=list)
    labels: list[NDArray[np.int8]] = field(default_factory=list)
    split_keys: list[NDArray[np.generic]] = field(default_factory=list)
    dropped_rows: dict[str, int] = field(default_factory=dict)  # by reason

    @property
    def rows(self) -> int:
        return sum(self.chunk_rows)

    def add(self, frame: pl.DataFrame) -> None:
        """Writes a chunk."""
        write_arrow(frame, self._path(len(self.chunk_rows)))
        self.chunk_rows.append(len(frame))
        self.labels.append(frame["label"].to_numpy())

    def chunks(self, columns: list[str] | None = None) -> Iterator[tuple[int, pl.DataFrame]]:
        """Yields (number of the first row, frame) of each chunk."""
        first = 0
        for index, rows in enumerate(self.chunk_rows):
            yield first, read_arrow(self._path(index), columns)
            first += rows

    def _path(self, index: int) -> Path:
        return self.folder / f"chunk-{index:05d}.arrow"


def stage_chunk(
    recipe: Recipe, encoders: list[FeatureEncoder], frame: pl.DataFrame
) -> pl.DataFrame:
    """The codes by feature name, with `label` and `group_id` if there are such columns."""
    columns = [e.stage(frame[e.feature.column]).alias(e.feature.name) for e in encoders]
    if "label" in frame.columns:
        columns.append(frame["label"])
    group = recipe.group_column
    if group and group in frame.columns:
        columns.append(group_ids(frame[group]))
    return pl.DataFrame(columns).rechunk()


def encode_staged(encoders: list[FeatureEncoder], staged: pl.DataFrame) -> pl.DataFrame:
    """Staged codes → ids and floats; label and group ids are unchanged."""
    return staged.with_columns(
        e.encode(staged[e.feature.name]).alias(e.feature.name) for e in encoders
    )
