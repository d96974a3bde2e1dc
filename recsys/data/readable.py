"""What can go wrong with a Parquet file of a data set, as the one exception a user meets."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pyarrow as pa

from recsys.errors import RecsysError
from recsys.io.memory import is_out_of_memory, out_of_memory


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turns what can go wrong with a file into the one exception a user meets."""
    try:
        yield
    except FileNotFoundError:
        raise RecsysError(
            "a file of the data set is not there",
            where=path,
            fix="put it back, or prepare the data set again",
        ) from None
    except PermissionError:
        raise RecsysError(
            "no permission to read a file of the data set",
            where=path,
            fix="give this user the right to read it, and to enter the folders above it",
        ) from None
    except (pa.ArrowException, pl.exceptions.PolarsError, UnicodeDecodeError, OSError) as error:
        if is_out_of_memory(error):
            raise out_of_memory(error, path) from None
        raise RecsysError(
            "the file is truncated, damaged or not Parquet",
            where=path,
            got=str(error).splitlines()[0],
            fix="prepare the data set again, or copy the file again",
        ) from None
