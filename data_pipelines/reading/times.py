"""Columns of times as numbers: seconds, or another unit, since 1970.

Times that become features must be between 1980 and 2200. Outside, the unit is wrong or the value is
not a time (20141021, 14102100, or a placeholder such as 0 or 1970-01-01).
"""

from pathlib import Path

import polars as pl

from recsys.errors import RecsysError
from recsys.schema import TICKS_PER_SECOND, TimeUnit

FIRST_SECOND, LAST_SECOND = 315_532_800.0, 7_258_118_400.0  # 1980 and 2200
ISO = (
    r"^(?<date>\d{4}-\d{2}-\d{2})"
    r"(?:[T ](?<hour>[01]\d|2[0-3]):(?<minute>[0-5]\d)(?::(?<second>[0-5]\d(?:[.,]\d+)?))?"
    r"(?<zone>Z|[+-](?:[01]\d|2[0-3]):?[0-5]\d)?)?$"
)


def parse_times(values: pl.Series, unit: TimeUnit, path: Path, first_row: int) -> pl.Series:
    """Text (N,) → float64 `unit`s since 1970, null if missing.

    Raises:
        RecsysError: names the first invalid time and its row.

    >>> parse_times(pl.Series(["2024-03-04T01:30+02:00"]), "s", Path("log.csv"), 1)[0]
    1709508600.0
    """
    ticks = TICKS_PER_SECOND[unit]
    texts = values.alias("x")
    found = texts.cast(pl.Float64, strict=False)
    if found.null_count() > texts.null_count():
        found = found.zip_with(found.is_not_null(), _iso_seconds(texts) * ticks)
    is_time = found.is_between(FIRST_SECOND * ticks, LAST_SECOND * ticks).fill_null(False)
    wrong = ~is_time & texts.is_not_null()
    if wrong.any():
        row = int(wrong.arg_true()[0])
        raise RecsysError(
            f"invalid time in the time column {values.name!r}",
            where=f"{path}, data row {first_row + row}",
            expected="a date or time in ISO 8601, or a number of time.unit since 1970 "
            f"({unit!r}) between the years 1980 and 2200",
            got=repr(texts[row]),
            fix="set time.unit to s, ms or us; list text that means missing under file.missing; "
            "write missing values of typed files as null",
        )
    return found.alias(values.name)


def order_times(
    values: pl.Series, unit: TimeUnit, path: Path, first_row: int | None = None
) -> pl.Series:
    """The float64 order of splits and histories: seconds since 1970, or any ascending numbers.

    Numbers are divided by the number of `unit`s in a second. Dates must be in ISO 8601, or with
    slashes if the year is first; others, such as 08/11/2017, are ambiguous.

    Raises:
        RecsysError: for a missing value, and for a value that is neither a number nor a date.
    """
    ticks = TICKS_PER_SECOND[unit]
    texts = values.cast(pl.String).alias("x")
    found = values.alias("x").cast(pl.Float64, strict=False) / ticks
    found = found.set(~found.is_finite(), None)
    if found.null_count():
        dates = texts.str.replace(r"^(\d{4})/(\d{2})/(\d{2})", "$1-$2-$3").str.strip_suffix(" UTC")
        found = found.zip_with(found.is_not_null(), _iso_seconds(dates))
    if found.null_count():
        row = int(found.is_null().arg_true()[0])
        is_missing = texts[row] is None
        raise RecsysError(
            f"the time column {values.name!r} has no value"
            if is_missing
            else f"invalid number or date in the time column {values.name!r}",
            where=path if first_row is None else f"{path}, data row {first_row + row}",
            expected="a number, or a date or time such as 2017-11-08 or 2017-11-08 16:00:00",
            got=None if is_missing else repr(texts[row]),
        )
    return found


def _iso_seconds(texts: pl.Series) -> pl.Series:
    """Seconds since 1970, in UTC unless the text has a zone; null for invalid text."""
    parts = texts.to_frame().select(pl.col("x").str.extract_groups(ISO)).to_series().struct
    days = parts.field("date").str.to_date("%Y-%m-%d", strict=False)
    seconds = days.cast(pl.Int32).cast(pl.Float64) * 86_400.0
    for name, size in (("hour", 3600.0), ("minute", 60.0), ("second", 1.0)):
        text = parts.field(name).str.replace(",", ".", literal=True)
        seconds += text.cast(pl.Float64).fill_null(0.0) * size
    return seconds - _offsets(parts.field("zone"))


def _offsets(zones: pl.Series) -> pl.Series:
    """Seconds east of Greenwich; 0 for Z and without a zone."""
    digits = zones.str.replace_all(r"[^0-9]", "")
    hours = digits.str.slice(0, 2).cast(pl.Float64, strict=False).fill_null(0.0)
    minutes = digits.str.slice(2, 2).cast(pl.Float64, strict=False).fill_null(0.0)
    is_west = zones.str.starts_with("-").fill_null(False).cast(pl.Float64)
    return (hours * 3600.0 + minutes * 60.0) * (1.0 - 2.0 * is_west)
