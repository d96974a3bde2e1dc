"""Converts values of any Arrow type to tokens, numbers or lists of tokens.

Columns of Parquet, Arrow and ORC files have types, and the type of the same column may differ
between train, valid, raw and item files; for instance, one null makes floats of integers. So equal
values have equal tokens, whatever the type of their column. README.md has the table of all types.
"""

from collections.abc import Set
from pathlib import Path

import polars as pl
import pyarrow as pa

from data_pipelines.reading.chunks import Dtypes, make_lists
from recsys.errors import RecsysError

# Types that polars cannot import; others are refused below, by the role of the column.
_UNSUPPORTED = (
    (pa.types.is_run_end_encoded, "run-end encoded"),
    (pa.types.is_decimal256, "256-bit decimal"),
    (pa.types.is_interval, "interval"),
    (pa.types.is_list_view, "list view"),
    (pa.types.is_large_list_view, "list view"),
    (pa.types.is_union, "union"),
)
_WRITTEN_BY_POLARS = (pl.String, pl.Null, pl.Categorical, pl.Enum, pl.Date, pl.Binary)
_WHOLE_BELOW = 2.0**63


class UnsuitableTypeError(ValueError):
    """The type has no tokens or numbers; the text is a suggestion for the user."""


def check_arrow_types(schema: pa.Schema, path: Path) -> None:
    """Raises RecsysError for columns of types that are not supported for any role."""
    for field in schema:
        for test, words in _UNSUPPORTED:
            if test(field.type):
                raise RecsysError(
                    f"the column {field.name!r} has an unsupported type",
                    where=path,
                    expected="numbers, text, booleans, dates, times, or lists of them",
                    got=f"{field.type} ({words})",
                    fix="cast it when you write the file, or leave the column out of the recipe",
                )


def canonical_frame(
    frame: pl.DataFrame, dtypes: Dtypes, sequences: Set[str], path: Path | str, first_row: int = 1
) -> pl.DataFrame:
    """The columns in `dtypes`: float64 numbers, text tokens, and lists of tokens for sequences.

    Raises:
        RecsysError: names the column, its type and, for a single invalid value, its row.
    """
    columns = []
    for name, dtype in dtypes.items():
        values = frame[name].alias("x")  # polars interprets some names as patterns
        role = "numerical" if dtype.is_float() else "sequence" if name in sequences else "text"
        try:
            columns.append(_canonical(values, role).alias(name))
        except UnsuitableTypeError as error:
            raise _unsuitable(values.alias(name), role, error, path) from None
        except pl.exceptions.PolarsError as error:
            raise _invalid_value(values, (name, role), error, path, first_row) from None
    return pl.DataFrame(columns)


def _canonical(values: pl.Series, role: str) -> pl.Series:
    match role:
        case "numerical":
            return numbers(values)
        case "sequence":
            return token_lists(values)
        case _:
            return tokens(values)


def tokens(values: pl.Series) -> pl.Series:
    """Values (N,) of any type → text, null if missing.

    Raises:
        UnsuitableTypeError: for lists, structs, maps, durations and other types without tokens.
    """
    dtype = values.dtype
    if dtype.is_integer() or isinstance(dtype, _WRITTEN_BY_POLARS):
        return values.cast(pl.String).replace("", None)
    match dtype:
        case pl.Boolean():
            return values.cast(pl.Int8).cast(pl.String)
        case pl.Datetime():
            return _time_texts(values)
        case pl.Time():
            return _short(values.dt.strftime("%H:%M:%S%.f"))
        case pl.Decimal():
            return _short(values.cast(pl.String))
        case pl.List() | pl.Array():
            raise UnsuitableTypeError("list the column under sequence.columns")
        case _ if dtype.is_float():
            return _float_tokens(values)
    raise UnsuitableTypeError("cast it when you write the file, or leave the column out")


def _float_tokens(values: pl.Series) -> pl.Series:
    """Whole numbers are written as integers, -0.0 as 0; NaN is missing."""
    if values.dtype == pl.Float16:  # exact; Float16 lacks some operations
        values = values.cast(pl.Float32)
    is_whole = (values.floor() == values) & (values.abs() < _WHOLE_BELOW)
    integers = values.cast(pl.Int64, strict=False).cast(pl.String)
    present = values.fill_nan(None)
    return pl.select(
        pl.when(is_whole).then(integers).otherwise(present.cast(pl.String))
    ).to_series()


def _time_texts(values: pl.Series) -> pl.Series:
    """One text for a time, whatever its unit; times with a zone are in UTC and end with Z."""
    zone = getattr(values.dtype, "time_zone", None)
    if zone is not None:
        values = values.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
    return _short(values.dt.strftime("%Y-%m-%d %H:%M:%S%.f")) + ("" if zone is None else "Z")


def _short(texts: pl.Series) -> pl.Series:
    """Removes trailing zeros of fractions, and fractions of zeros only."""
    return texts.str.replace(r"(\.\d*?)0+$", "$1").str.strip_suffix(".")


def numbers(values: pl.Series) -> pl.Series:
    """Values (N,) of any type → float64, null if missing; times as seconds since 1970.

    Raises:
        UnsuitableTypeError: for lists, structs, maps, binary and other types without numbers.
    """
    dtype = values.dtype
    match dtype:
        case pl.Datetime():
            unit = getattr(dtype, "time_unit", "us")
            divisor = {"ms": 1e3, "us": 1e6, "ns": 1e9}[str(unit)]
            return values.to_physical().cast(pl.Float64) / divisor
        case pl.Date():
            return values.to_physical().cast(pl.Float64) * 86_400.0
        case pl.Boolean() | pl.Decimal() | pl.Null():
            return values.cast(pl.Float64)
        case pl.String() | pl.Categorical() | pl.Enum():
            return values.cast(pl.String).replace("", None).cast(pl.Float64).fill_nan(None)
        case _ if dtype.is_numeric():
            return values.cast(pl.Float64).fill_nan(None)
        case pl.List() | pl.Array():
            raise UnsuitableTypeError("lists of numbers are not supported: leave the column out")
        case _:
            raise UnsuitableTypeError("cast it when you write the file, or leave the column out")


def token_lists(values: pl.Series) -> pl.Series:
    """Lists → lists of tokens (null: empty); other values → tokens, which are split later."""
    if isinstance(values.dtype, pl.Array):
        values = values.arr.to_list()
    if not isinstance(values.dtype, pl.List):
        return tokens(values)
    lengths = values.list.len().fill_null(0)
    items = tokens(values.filter(lengths > 0).explode())
    return make_lists(items, lengths.to_numpy())


def _unsuitable(values: pl.Series, role: str, error: Exception, path: Path | str) -> RecsysError:
    return RecsysError(
        f"the {role} column {values.name!r} has an unsupported type",
        where=path,
        expected={
            "numerical": "numbers, booleans, dates or times",
            "sequence": "lists of numbers, text, dates or times, or text to be split",
            "text": "one number, text, boolean, date or time in each row",
        }[role],
        got=str(values.dtype),
        fix=str(error),
    )


def _invalid_value(
    values: pl.Series, column: tuple[str, str], error: Exception, path: Path | str, first_row: int
) -> RecsysError:
    name, role = column
    row = _first_failing(values, role)
    got = str(error).splitlines()[0] if row is None else repr(values[row])[:200]
    return RecsysError(
        f"invalid value in the {role} column {name!r}",
        where=path if row is None else f"{path}, data row {first_row + row}",
        expected="a number" if role == "numerical" else "UTF-8 text",
        got=f"{got} (type {values.dtype})",
        fix="list the column under categorical.columns" if role == "numerical" else None,
    )


def _first_failing(values: pl.Series, role: str) -> int | None:
    """The first row that fails by itself, found by bisection."""
    low, high = 0, len(values)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            _canonical(values[low:middle], role)
            low = middle
        except pl.exceptions.PolarsError:
            high = middle
    return low if high > low else None
