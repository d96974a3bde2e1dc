"""Rows whose columns of times are read as numbers."""

import fnmatch
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from data_pipelines.reading.chunks import Dtypes, NumberedFrame
from data_pipelines.reading.times import parse_times
from data_pipelines.recipe import Recipe
from data_pipelines.source import Source


class TimedSource:
    """The rows of another source, with times as numbers of `time.unit` since 1970."""

    def __init__(self, inner: Source) -> None:
        self.inner = inner

    def files(self, raw: list[Path]) -> list[Path]:
        return self.inner.files(raw)

    def columns(self, recipe: Recipe, path: Path) -> list[str]:
        return self.inner.columns(recipe, path)

    def read(self, recipe: Recipe, path: Path, dtypes: Dtypes) -> Iterator[NumberedFrame]:
        """Reads times as text, which is the same for all types of columns, and parses it."""
        times = [
            name
            for name in dtypes
            if any(name == p or fnmatch.fnmatchcase(name, p) for p in recipe.time.columns)
            and dtypes[name] == pl.Float64()
        ]
        as_text = dtypes | dict.fromkeys(times, pl.String())
        for row, frame in self.inner.read(recipe, path, as_text):
            parsed = {n: parse_times(frame[n], recipe.time.unit, path, row) for n in times}
            yield row, pl.DataFrame([parsed.get(name, frame[name]) for name in dtypes])
