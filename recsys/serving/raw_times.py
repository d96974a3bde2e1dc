"""Raw moments as whole seconds since 1970, apart from data_pipelines on purpose."""

from datetime import UTC, datetime

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recsys.errors import RecsysError
from recsys.schema import TICKS_PER_SECOND, Hour, TimeUnit, Weekday
from recsys.serving.raw_values import to_numbers

Floats = NDArray[np.float64]

FIRST, LAST = datetime(1980, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)


def to_moments(values: pl.Series, unit: TimeUnit, feature: str, column: str) -> pl.Series:
    """Values (N,) of any type → float64 whole seconds, null where missing; UTC without a zone.

    Raises:
        RecsysError: for a value that is no moment.
    """
    if isinstance(values.dtype, pl.Datetime | pl.Date):
        seconds = to_numbers(values, feature, column).floor()
        wrong = values.filter(~seconds.is_between(FIRST.timestamp(), LAST.timestamp()))
        if len(wrong):
            raise _no_moment(wrong[0], unit, feature, column)
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
        raise _no_moment(value, unit, feature, column)
    return seconds // 1


def _seconds_of_text(text: str, feature: str, column: str) -> float:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise _no_moment(text, "s", feature, column) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() // 1


def clock_tokens(transform: Hour | Weekday, seconds: Floats) -> NDArray[np.int64]:
    """Hours 0 … 23, or days of the week with 0 for Sunday, in UTC; 1970 began on a Thursday."""
    if isinstance(transform, Hour):
        return (seconds % 86_400 // 3600).astype(np.int64)
    return ((seconds // 86_400).astype(np.int64) + 4) % 7


def _no_moment(value: object, unit: TimeUnit, feature: str, column: str) -> RecsysError:
    return RecsysError(
        f"{feature}: a raw value is no moment",
        where=f"column {column!r}",
        expected=f"a date or time in ISO 8601, or a number since 1970 ({unit!r}), 1980 to 2200",
        got=repr(value),
    )
