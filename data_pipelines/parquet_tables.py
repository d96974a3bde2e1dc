"""Parquet as a raw format: row runs → frames of the canonical types."""

from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from data_pipelines.reading import prefetch
from recsys.errors import RecsysError

CHUNK_ROWS = 1 << 18


def open_parquet(path: Path) -> pq.ParquetFile:
    """An open Parquet file, or the reason why it is none."""
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowInvalid, pa.ArrowIOError) as error:
        if isinstance(error, PermissionError):
            raise
        raise RecsysError(
            "this is not a whole Parquet file",
            where=path,
            got=str(error).splitlines()[0],
            fix="is it text (file.format=text), or was the copy cut short?",
        ) from None


def read_parquet(path: Path, names: list[str]) -> Iterator[tuple[int, pl.DataFrame]]:
    """(number of the first row, frame) for each run of rows of a Parquet file."""
    row = 1
    with open_parquet(path) as file:
        for batch in prefetch(file.iter_batches(CHUNK_ROWS, columns=names)):
            frame = pl.DataFrame(pl.from_arrow(batch))
            yield row, frame
            row += len(frame)


def canonical_frame(
    frame: pl.DataFrame, dtypes: dict[str, pl.DataType], separator: str, path: Path
) -> pl.DataFrame:
    """The canonical types: float64 or text; lists joined, other types written out, "" missing."""
    columns = []
    for name, dtype in dtypes.items():
        column = pl.col(name)
        if isinstance(frame[name].dtype, pl.List):
            column = column.cast(pl.List(pl.String)).list.join(separator)
        elif dtype == pl.String and frame[name].dtype == pl.Boolean:
            column = column.cast(pl.Int8).cast(pl.String)
        else:
            column = column.cast(dtype)
        is_text = dtype == pl.String
        columns.append(
            column.replace("", None) if is_text else pl.when(column.is_finite()).then(column)
        )
    try:
        return frame.select(columns)
    except pl.exceptions.PolarsError as error:
        raise RecsysError(
            "a column has the wrong type", where=path, got=str(error).splitlines()[0]
        ) from None
