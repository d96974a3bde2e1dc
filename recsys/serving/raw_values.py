"""Raw values of any type → the tokens, numbers and times that `prepare` makes of them.

It shares no code with data_pipelines on purpose: an export is right if the two agree. The rules are
the table in docs/data_contract.md.
"""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recsys.errors import RecsysError
from recsys.schema import TICKS_PER_SECOND, Hour, TimeUnit, Weekday

Floats = NDArray[np.float64]

FIRST, LAST = datetime(1980, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
_EPOCH = datetime(1970, 1, 1)
_TICKS_PER_SECOND = {"ms": 1e3, "us": 1e6, "ns": 1e9}


def to_tokens(values: pl.Series, feature: str, column: str | None = None) -> pl.Series:
    """Values (N,) → text, null where missing; raises RecsysError for types without tokens."""
    dtype = values.dtype
    if dtype == pl.String:
        return values.replace("", None)
    if dtype.is_integer():
        return values.cast(pl.String)
    if isinstance(dtype, pl.Datetime):  # Python's datetime has no nanoseconds
        ticks = _TICKS_PER_SECOND[str(dtype.time_unit)]
        mark = "" if dtype.time_zone is None else "Z"
        return _by_distinct(values.to_physical(), lambda t: _token_of_moment(t, ticks, mark))
    if dtype == pl.Float16:
        values = values.cast(pl.Float32)
    if dtype == pl.Binary:
        return _text_of_bytes(values, feature, column)
    if dtype.is_float() or isinstance(
        dtype, pl.Boolean | pl.Decimal | pl.Date | pl.Time | pl.Binary | pl.Categorical | pl.Enum
    ):
        return _by_distinct(values, _token)
    if dtype == pl.Null:
        return values.cast(pl.String)
    raise _unsuitable(
        values, feature, column, "one number, text, boolean, date or time in each row"
    )


def to_token_lists(
    values: pl.Series, feature: str, separator: str, column: str | None = None
) -> pl.Series:
    """Lists, or text with `separator` → lists of tokens; a null list is empty."""
    if isinstance(values.dtype, pl.Array):
        values = values.arr.to_list()
    if not isinstance(values.dtype, pl.List):
        text = values if values.dtype == pl.String else to_tokens(values, feature, column)
        return text.str.split(separator).fill_null([])
    kept = values.fill_null([])
    lengths = kept.list.len()
    flat = to_tokens(kept.filter(lengths > 0).explode(), feature, column)
    numbers = pl.Series(np.repeat(np.arange(len(kept)), lengths.to_numpy()))
    grouped = pl.DataFrame({"row": numbers, "token": flat}).group_by("row", maintain_order=True)
    rows = pl.DataFrame({"row": pl.Series(np.arange(len(kept)))})
    joined = rows.join(grouped.agg("token"), on="row", how="left", maintain_order="left")
    return joined["token"].fill_null([]).cast(pl.List(pl.String))


def to_numbers(values: pl.Series, feature: str, column: str | None = None) -> pl.Series:
    """Values (N,) → float64, null where missing; moments are seconds since 1970."""
    dtype = values.dtype
    if isinstance(dtype, pl.Datetime):
        return values.to_physical().cast(pl.Float64) / _TICKS_PER_SECOND[str(dtype.time_unit)]
    if dtype == pl.Date:
        return values.to_physical().cast(pl.Float64) * 86_400.0
    is_text = isinstance(dtype, pl.String | pl.Categorical | pl.Enum)
    if is_text:
        values = values.cast(pl.String).replace("", None)
    is_number = dtype.is_numeric() or isinstance(dtype, pl.Boolean | pl.Decimal | pl.Null)
    if not is_number and not is_text:
        raise _unsuitable(values, feature, column, "numbers, booleans, dates or times")
    try:
        return values.cast(pl.Float64).fill_nan(None)
    except pl.exceptions.PolarsError as error:
        raise RecsysError(
            f"{feature}: a raw value cannot be read",
            where=f"column {column or feature!r}",
            expected="a number",
            got=str(error).splitlines()[0],
        ) from None


def _by_distinct(values: pl.Series, token: Callable[[object], str | None]) -> pl.Series:
    """`token` of each distinct value."""
    distinct = values.drop_nulls().unique(maintain_order=True)
    if distinct.dtype.is_float():  # text first: float32 has a shorter one than its float64
        texts = distinct.cast(pl.String)
        made = [token(v) for v in zip(distinct.to_list(), texts, strict=True)]
    else:
        made = [token(v) for v in distinct.to_list()]
    table = pl.DataFrame({"value": distinct, "token": pl.Series(made, dtype=pl.String)})
    keyed = values.rename("value").to_frame()
    return keyed.join(table, on="value", how="left", maintain_order="left")["token"]


def _text_of_bytes(values: pl.Series, feature: str, column: str | None) -> pl.Series:
    try:
        return _by_distinct(values, _token)
    except UnicodeDecodeError as error:
        raise RecsysError(
            f"{feature}: a raw value cannot be read",
            where=f"column {column or feature!r}",
            expected="UTF-8 text",
            got=repr(error.object)[:200],
        ) from None


def _token(value: object) -> str | None:
    match value:
        case (float() as number, str(text)):
            return _token_of_float(number, text)
        case bool():
            return str(int(value))
        case Decimal():
            return _without_zeros(format(value, "f"))
        case date() | time():
            return _without_zeros(value.isoformat())
        case bytes():
            return value.decode("utf-8") or None
        case _:
            return str(value) or None


def _token_of_float(number: float, text: str) -> str | None:
    if np.isnan(number):
        return None
    return str(int(number)) if abs(number) < 2**63 and number == int(number) else text


def _token_of_moment(value: object, ticks: float, mark: str) -> str:
    assert isinstance(value, int)
    seconds, rest = divmod(value * (10**9 // int(ticks)), 10**9)
    moment = (_EPOCH + timedelta(seconds=seconds)).isoformat(" ")
    return _without_zeros(f"{moment}.{rest:09d}") + mark


def _without_zeros(text: str) -> str:
    return re.sub(r"\.?0*$", "", text) if "." in text else text


def _unsuitable(values: pl.Series, feature: str, column: str | None, expected: str) -> RecsysError:
    return RecsysError(
        f"{feature}: the raw column has an unsuitable type",
        where=f"column {column or feature!r}",
        expected=expected,
        got=str(values.dtype),
    )


def to_moments(values: pl.Series, unit: TimeUnit, feature: str, column: str) -> pl.Series:
    """Values (N,) of any type → float64 whole seconds, null where missing; UTC without a zone.

    Raises:
        RecsysError: for a value that is not a date or time.
    """
    if isinstance(values.dtype, pl.Datetime | pl.Date):
        seconds = to_numbers(values, feature, column).floor()
        wrong = values.filter(~seconds.is_between(FIRST.timestamp(), LAST.timestamp()))
        if len(wrong):
            raise _not_a_moment(wrong[0], unit, feature, column)
        return seconds
    if values.dtype.is_float():
        values = values.fill_nan(None)
    distinct = values.drop_nulls().unique(maintain_order=True)
    made = [_seconds(value, unit, feature, column) for value in distinct.to_list()]
    table = pl.DataFrame({"value": distinct, "seconds": pl.Series(made, dtype=pl.Float64)})
    keyed = values.rename("value").to_frame()
    return keyed.join(table, on="value", how="left", maintain_order="left")["seconds"]


def _seconds(value: object, unit: TimeUnit, feature: str, column: str) -> float | None:
    """Floor of the seconds; None for empty text."""
    if value == "":
        return None
    try:
        seconds = float(str(value)) / TICKS_PER_SECOND[unit]
    except ValueError:
        seconds = _seconds_of_text(str(value), feature, column)
    if not FIRST.timestamp() <= seconds <= LAST.timestamp():
        raise _not_a_moment(value, unit, feature, column)
    return seconds // 1


def _seconds_of_text(text: str, feature: str, column: str) -> float:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise _not_a_moment(text, "s", feature, column) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() // 1


def clock_tokens(transform: Hour | Weekday, seconds: Floats) -> NDArray[np.int64]:
    """Hours 0 … 23, or days of the week with 0 for Sunday, in UTC; 1970 began on a Thursday."""
    if isinstance(transform, Hour):
        return (seconds % 86_400 // 3600).astype(np.int64)
    return ((seconds // 86_400).astype(np.int64) + 4) % 7


def _not_a_moment(value: object, unit: TimeUnit, feature: str, column: str) -> RecsysError:
    return RecsysError(
        f"{feature}: a raw value is not a date or time",
        where=f"column {column!r}",
        expected=f"ISO 8601, or a number since 1970 ({unit!r}), between 1980 and 2200",
        got=repr(value),
    )
