"""Errors of reading a dataset's files, as RecsysError."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pyarrow as pa

from recsys.errors import RecsysError
from recsys.io.memory import is_out_of_memory, out_of_memory


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Raises RecsysError for a file that cannot be read."""
    try:
        yield
    except FileNotFoundError:
        raise RecsysError(
            "file of the dataset not found",
            where=path,
            fix="restore it, or prepare the dataset again",
        ) from None
    except PermissionError:
        raise RecsysError(
            "no permission to read a file of the dataset",
            where=path,
            fix="give this user read access to the file and to the folders above it",
        ) from None
    except (pa.ArrowException, pl.exceptions.PolarsError, UnicodeDecodeError, OSError) as error:
        if is_out_of_memory(error):
            raise out_of_memory(error, path) from None
        raise RecsysError(
            "the file is truncated, damaged or not Parquet",
            where=path,
            got=str(error).splitlines()[0],
            fix="prepare the dataset again, or copy the file again",
        ) from None
