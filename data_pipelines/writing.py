"""Writes datasets: Parquet files with checksums, in a folder that is complete or absent."""

import contextlib
import errno
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from data_pipelines.encoding.statistics import FeatureStatistics, find_warnings
from data_pipelines.recipe import Recipe
from recsys.errors import RecsysError
from recsys.io.atomic import atomic_folder, write_text
from recsys.io.lock import file_lock
from recsys.io.paths import sha256_of
from recsys.schema import SCHEMA_FILE, DataFile, Schema, Split

ROW_GROUP_ROWS = 1 << 15
ROWS_PER_FILE = 1 << 21

Progress = Callable[[str, int, int | None], None]  # (stage, rows done, all rows if known)


class SplitWriter:
    """Writes the Parquet files of a split, in row groups of equal size for frames of any size."""

    def __init__(self, folder: Path, split: str) -> None:
        self.folder, self.split = folder, split
        self.files: list[DataFile] = []
        self.rows = 0
        self.positives = 0
        self._rest: pa.Table | None = None
        self._writer: pq.ParquetWriter | None = None
        self._rows_in_file = 0

    def add(self, frame: pl.DataFrame) -> None:
        """Adds rows, in order."""
        self.rows += len(frame)
        self.positives += int(frame["label"].sum())
        table = frame_to_arrow(frame)
        if self._rest is not None:
            table = pa.concat_tables([self._rest, table])
        whole = len(table) - len(table) % ROW_GROUP_ROWS
        self._write(table.slice(0, whole))
        self._rest = table.slice(whole).combine_chunks()

    def close(self) -> tuple[DataFile, ...]:
        """Writes the remaining rows and returns the files."""
        if self._rest is not None:
            self._write(self._rest)
        self._close_file()
        return tuple(self.files)

    def _write(self, table: pa.Table) -> None:
        while len(table):
            if self._writer is None:
                self._writer = self._open(table.schema)
            room = ROWS_PER_FILE - self._rows_in_file
            part = table.slice(0, room).combine_chunks()
            self._writer.write_table(part, row_group_size=ROW_GROUP_ROWS)
            self._rows_in_file += len(part)
            table = table.slice(len(part))
            if self._rows_in_file == ROWS_PER_FILE:
                self._close_file()

    def _open(self, schema: pa.Schema) -> pq.ParquetWriter:
        path = self.folder / self._next_path()
        path.parent.mkdir(parents=True, exist_ok=True)
        # Loaders read plain pages without dictionaries and compression fastest. They compare the
        # checksum of each page, since a flipped bit in a plain page is not noticed otherwise.
        return pq.ParquetWriter(
            path,
            schema,
            use_dictionary=False,
            compression="none",
            write_statistics=False,
            write_page_checksum=True,
        )

    def _next_path(self) -> str:
        return f"{self.split}/part-{len(self.files):05d}.parquet"

    def _close_file(self) -> None:
        if self._writer is None:
            return
        self._writer.close()
        path = self._next_path()
        checksum = sha256_of(self.folder / path)
        self.files.append(DataFile(path=path, rows=self._rows_in_file, sha256=checksum))
        self._writer, self._rows_in_file = None, 0


class Written(NamedTuple):
    """The written rows, their counts, and warnings."""

    splits: dict[str, Split]
    statistics: list[FeatureStatistics]
    dropped_rows: dict[str, int]
    warnings: tuple[str, ...] = ()

    def schema(self, recipe: Recipe) -> Schema:
        """The schema of the dataset."""
        return Schema(
            name=recipe.name,
            features=tuple(one.encoder.describe() for one in self.statistics),
            group="group_id" if recipe.group_column else None,
            splits=self.splits,
            recipe=recipe.model_dump(mode="json"),
            created_by=f"polars {pl.__version__}",
            statistics={one.feature.name: one.counts() for one in self.statistics},
            dropped_rows=self.dropped_rows,
            warnings=(*self.warnings, *find_warnings(self.statistics, self.splits)),
        )


def close_writers(writers: Sequence[SplitWriter]) -> dict[str, Split]:
    """Closes all writers and returns the splits."""
    return {
        writer.split: Split(files=writer.close(), rows=writer.rows, positives=writer.positives)
        for writer in writers
    }


def frame_to_arrow(frame: pl.DataFrame) -> pa.Table:
    """The frame with the Arrow types of datasets: not nullable, lists with 32-bit offsets."""
    table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
    fields = []
    for column in table.schema:
        dtype = column.type
        if pa.types.is_large_list(dtype):
            dtype = pa.list_(pa.field("item", dtype.value_type, nullable=False))
        fields.append(pa.field(column.name, dtype, nullable=False))
    return table.cast(pa.schema(fields))


@contextlib.contextmanager
def new_folder(out: Path, overwrite: bool) -> Iterator[Path]:
    """A temporary folder that is renamed to `out`, or is removed after an error."""
    _check_out(out, overwrite)
    out.parent.mkdir(parents=True, exist_ok=True)
    with file_lock(out.parent / f".{out.name}.lock", f"another process is preparing {out}"):
        _check_out(out, overwrite)  # the other process may have created it
        with atomic_folder(out) as folder:
            yield folder


def _check_out(out: Path, overwrite: bool) -> None:
    """Raises RecsysError if `out` exists, unless it is a dataset that may be overwritten."""
    if out.is_dir() and not any(out.iterdir()):
        return
    if out.exists() and not (overwrite and (out / SCHEMA_FILE).exists()):
        replace = "replace the dataset with --overwrite"
        is_dataset = (out / SCHEMA_FILE).exists()
        raise RecsysError(
            "the output folder exists already",
            where=out,
            fix=f"choose another --out, or {replace if is_dataset else 'remove the folder'}",
        )


def save_schema(schema: Schema, folder: Path) -> None:
    """Writes `schema.json`, the last file of a dataset."""
    write_text(folder / SCHEMA_FILE, schema.model_dump_json(indent=1) + "\n")


@contextlib.contextmanager
def readable_os_errors(out: Path) -> Iterator[None]:
    """Raises RecsysError for a full disk or a missing permission; other errors are unchanged."""
    try:
        yield
    except OSError as error:
        file = error.filename or out
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise RecsysError(
                "the disk is full", where=file, fix="free space, or choose another --out"
            ) from None
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise RecsysError("no permission", where=file, got=error.strerror) from None
        raise
