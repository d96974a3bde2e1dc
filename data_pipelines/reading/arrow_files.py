"""Parquet, Arrow (IPC, Feather) and ORC files as chunks of rows, read by pyarrow."""

from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.orc
import pyarrow.parquet as pq

from data_pipelines.reading.arrow_values import check_arrow_types
from data_pipelines.reading.chunks import NumberedFrame, check_unique, fill_names, prefetch
from data_pipelines.reading.files import (
    ARROW_STREAM,
    FEATHER_V1,
    FORMAT_NAMES,
    binary_format,
    compression_of,
    head_of,
    with_article,
)
from recsys.errors import RecsysError

CHUNK_ROWS = 1 << 18

# Raised by pyarrow for a damaged file.
DAMAGED = (pa.ArrowException, OSError, UnicodeDecodeError)

Batches = Iterator[pa.RecordBatch]


def column_names(path: Path, file_format: str) -> list[str]:
    """The column names; a duplicate name is an error."""
    return check_unique(fill_names(_open(path, file_format)[0]), path)


def read_columns(path: Path, file_format: str, names: list[str]) -> Iterator[NumberedFrame]:
    """Yields these columns in chunks, with the types of the file."""
    known, open_batches = _open(path, file_format)
    own = dict(zip(fill_names(known), known, strict=True))
    wanted = [own[name] for name in names]
    row = 1
    for batch in prefetch(_slices(open_batches([n for n in known if n in wanted]))):
        yield row, _to_polars(batch.select(wanted).rename_columns(names), path, file_format)
        row += len(batch)


def _to_polars(batch: pa.RecordBatch, path: Path, file_format: str) -> pl.DataFrame:
    check_arrow_types(batch.schema, path)
    try:
        return pl.DataFrame(pl.from_arrow(batch))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise _damaged(path, file_format, str(error).splitlines()[0]) from None


def _slices(batches: Batches) -> Batches:
    for batch in batches:
        for start in range(0, len(batch), CHUNK_ROWS):
            yield batch.slice(start, CHUNK_ROWS)


def _open(path: Path, file_format: str) -> tuple[list[str], Callable[[list[str]], Batches]]:
    """The column names, and a function that reads some columns; both may raise RecsysError."""
    if binary_format(head_of(path)) != file_format:
        raise _damaged(path, file_format, None)
    opener = {"parquet": _open_parquet, "arrow": _open_arrow, "orc": _open_orc}[file_format]
    try:
        schema, batches = opener(path)
        known = list(schema.names)
    except DAMAGED as error:
        raise _explained(error, path, file_format) from None

    def read(names: list[str]) -> Batches:
        try:
            for batch in batches(names):
                batch.validate(full=True)  # polars does not check offsets and UTF-8
                yield batch
        except DAMAGED as error:
            raise _explained(error, path, file_format) from None

    return known, read


def _open_parquet(path: Path) -> tuple[pa.Schema, Callable[[list[str]], Batches]]:
    schema = pq.read_schema(path)

    def batches(names: list[str]) -> Batches:
        with pq.ParquetFile(path) as file:
            yield from file.iter_batches(CHUNK_ROWS, columns=names)

    return schema, batches


def _open_arrow(path: Path) -> tuple[pa.Schema, Callable[[list[str]], Batches]]:
    head = head_of(path)[:4]
    if head == FEATHER_V1:
        raise pa.ArrowInvalid(
            "Feather version 1 is not supported; write the file as Arrow or Parquet"
        )
    is_stream = head == ARROW_STREAM

    def open_file(source: pa.NativeFile, fields: list[int] | None) -> pa.ipc.RecordBatchReader:
        options = pa.ipc.IpcReadOptions(included_fields=fields)
        opener = pa.ipc.open_stream if is_stream else pa.ipc.open_file
        return opener(source, options=options)

    with pa.OSFile(str(path), "rb") as source:
        schema = open_file(source, None).schema

    def batches(names: list[str]) -> Batches:
        with pa.OSFile(str(path), "rb") as source:
            reader = open_file(source, [schema.names.index(name) for name in names])
            yield from reader if is_stream else _of_file(reader)

    return schema, batches


def _of_file(reader: pa.ipc.RecordBatchFileReader) -> Batches:
    return (reader.get_batch(number) for number in range(reader.num_record_batches))


def _open_orc(path: Path) -> tuple[pa.Schema, Callable[[list[str]], Batches]]:
    schema = pyarrow.orc.ORCFile(path).schema

    def batches(names: list[str]) -> Batches:
        file = pyarrow.orc.ORCFile(path)
        for number in range(file.nstripes):
            yield file.read_stripe(number, columns=names)

    return schema, batches


def _explained(error: Exception, path: Path, file_format: str) -> Exception:
    """The error for a damaged file; errors of the disk and of permissions are unchanged."""
    if isinstance(error, OSError) and error.errno is not None:
        return error
    if isinstance(error, MemoryError):
        return RecsysError(
            "out of memory while reading a file",
            where=path,
            got=str(error).splitlines()[0],
            fix="write the file with smaller row groups or batches, if it is not damaged",
        )
    return _damaged(path, file_format, str(error).splitlines()[0])


def _damaged(path: Path, file_format: str, got: str | None) -> RecsysError:
    if got is None:
        kind = binary_format(head_of(path)) or compression_of(head_of(path))
        got = f"{with_article(kind)} file" if kind else "other content"
    return RecsysError(
        f"not a valid {FORMAT_NAMES[file_format]} file",
        where=path,
        got=got,
        fix="set file.format=text if it is text, or copy the file again if it is truncated",
    )
