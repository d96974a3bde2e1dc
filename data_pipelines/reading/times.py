"""Columns of moments as numbers, seconds (or other units) since 1970, wherever a recipe has some.

They must lie between 1980 and 2200: outside, the unit is wrong, or the value is no moment
(20141021, 14102100, a placeholder 0 or 1970-01-01).
"""

import fnmatch
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from data_pipelines.reading.csv_tables import Dtypes
from data_pipelines.recipe import Recipe
from data_pipelines.sources.table import NumberedFrame, Source
from recsys.errors import RecsysError
from recsys.schema import TICKS_PER_SECOND, TimeUnit

FIRST_SECOND, LAST_SECOND = 315_532_800.0, 7_258_118_400.0  # 1980 and 2200
ISO = (
    r"^(?<date>\d{4}-\d{2}-\d{2})"
    r"(?:[T ](?<hour>[01]\d|2[0-3]):(?<minute>[0-5]\d)(?::(?<second>[0-5]\d(?:[.,]\d+)?))?"
    r"(?<zone>Z|[+-](?:[01]\d|2[0-3]):?[0-5]\d)?)?$"
)


def timed_source(inner: Source, recipe: Recipe) -> Source:
    """The source, around `inner` if the recipe has columns of moments."""
    return TimedSource(inner) if recipe.time.columns else inner


class TimedSource:
    """The rows of another source, moments as numbers."""

    def __init__(self, inner: Source) -> None:
        self.inner = inner

    def files(self, raw: list[Path]) -> list[Path]:
        """Those of the inner source."""
        return self.inner.files(raw)

    def columns(self, recipe: Recipe, path: Path) -> list[str]:
        """Those of the inner source."""
        return self.inner.columns(recipe, path)

    def read(self, recipe: Recipe, path: Path, dtypes: Dtypes) -> Iterator[NumberedFrame]:
        """Moments are read as text, the same for every type of column, and then parsed."""
        moments = [
            name
            for name in dtypes
            if any(name == p or fnmatch.fnmatchcase(name, p) for p in recipe.time.columns)
            and dtypes[name] == pl.Float64()
        ]
        as_text = dtypes | dict.fromkeys(moments, pl.String())
        for row, frame in self.inner.read(recipe, path, as_text):
            parsed = {n: parse_moments(frame[n], recipe.time.unit, path, row) for n in moments}
            yield row, pl.DataFrame([parsed.get(name, frame[name]) for name in dtypes])


def parse_moments(values: pl.Series, unit: TimeUnit, path: Path, first_row: int) -> pl.Series:
    """Text (N,) → float64 `unit`s since 1970, null where missing.

    Raises:
        RecsysError: names the first value that is no moment, with its row.
    """
    ticks = TICKS_PER_SECOND[unit]
    texts = values.alias("x")
    found = texts.cast(pl.Float64, strict=False)
    if found.null_count() > texts.null_count():
        found = found.zip_with(found.is_not_null(), _iso_seconds(texts) * ticks)
    is_moment = found.is_between(FIRST_SECOND * ticks, LAST_SECOND * ticks).fill_null(False)
    wrong = ~is_moment & texts.is_not_null()
    if wrong.any():
        row = int(wrong.arg_true()[0])
        raise RecsysError(
            f"the time column {values.name!r} holds a value that is no moment",
            where=f"{path}, data row {first_row + row}",
            expected="a date or time in ISO 8601, or a number of time.unit since 1970 "
            f"({unit!r}) between the years 1980 and 2200",
            got=repr(texts[row]),
            fix="set time.unit to s, ms or us; list text that means missing under file.missing; "
            "in typed files, make what is missing null",
        )
    return found.alias(values.name)


def ordering_seconds(
    values: pl.Series, unit: TimeUnit, path: Path, first_row: int | None = None
) -> pl.Series:
    """What splits and histories are ordered by: seconds since 1970, or numbers that just ascend.

    Numbers are divided by the `unit`s of a second; any number is allowed. Dates are in ISO 8601, or
    with slashes if the year is first; others, such as 08/11/2017, may mean two days.

    Raises:
        RecsysError: for a missing value, and for one that is neither number nor date.
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
            else f"the time column {values.name!r} holds a value that is neither number nor date",
            where=path if first_row is None else f"{path}, data row {first_row + row}",
            expected="a number, or a date or time such as 2017-11-08 or 2017-11-08 16:00:00",
            got=None if is_missing else repr(texts[row]),
        )
    return found


def _iso_seconds(texts: pl.Series) -> pl.Series:
    """Seconds since 1970, in UTC unless the text has a zone; null for other text."""
    parts = texts.to_frame().select(pl.col("x").str.extract_groups(ISO)).to_series().struct
    days = parts.field("date").str.to_date("%Y-%m-%d", strict=False)
    seconds = days.cast(pl.Int32).cast(pl.Float64) * 86_400.0
    for name, size in (("hour", 3600.0), ("minute", 60.0), ("second", 1.0)):
        text = parts.field(name).str.replace(",", ".", literal=True)
        seconds += text.cast(pl.Float64).fill_null(0.0) * size
    return seconds - _offsets(parts.field("zone"))


def _offsets(zones: pl.Series) -> pl.Series:
    """Seconds east of Greenwich; 0 for Z and for none."""
    digits = zones.str.replace_all(r"[^0-9]", "")
    hours = digits.str.slice(0, 2).cast(pl.Float64, strict=False).fill_null(0.0)
    minutes = digits.str.slice(2, 2).cast(pl.Float64, strict=False).fill_null(0.0)
    is_west = zones.str.starts_with("-").fill_null(False).cast(pl.Float64)
    return (hours * 3600.0 + minutes * 60.0) * (1.0 - 2.0 * is_west)
