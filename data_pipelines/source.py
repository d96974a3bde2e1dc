"""Data sources: readers of raw files, with the built-in datasets that use them."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple, Protocol

from data_pipelines.reading.chunks import Dtypes, NumberedFrame
from data_pipelines.recipe import Recipe


class Source(Protocol):
    """Reads raw files as canonical columns: text, or float64 for numbers; null if missing."""

    def files(self, raw: list[Path]) -> list[Path]:
        """Returns the files that contain the rows, in order."""

    def columns(self, recipe: Recipe, path: Path) -> list[str]:
        """Returns the canonical columns of a file, without the label's if the file has none."""

    def read(self, recipe: Recipe, path: Path, dtypes: Dtypes) -> Iterator[NumberedFrame]:
        """Yields the columns in `dtypes`, in chunks, in row order."""


class DataSource(NamedTuple):
    """An entry of the list `data_pipelines.sources.SOURCES`.

    Attributes:
        datasets: the recipes of built-in datasets, each with a unique name.
        readers: `source` of a recipe → the reader of its raw files.
    """

    datasets: tuple[Recipe, ...] = ()
    readers: Mapping[str, Source] = MappingProxyType({})
