"""The first reading: each row as compact codes in temporary files, so text is parsed only once."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from data_pipelines.encoding.encoders import FeatureEncoder
from data_pipelines.encoding.hashing import hash_distinct
from data_pipelines.encoding.labels import apply_label
from data_pipelines.encoding.splits import (
    SPLITS,
    SplitCodes,
    group_split,
    position_split,
    random_split,
    split_of_folds,
    stratified_folds,
    stratified_folds_0_20,
    time_split,
)
from data_pipelines.plan import split_column
from data_pipelines.reading.blocks import prefetch
from data_pipelines.reading.csv_tables import Dtypes
from data_pipelines.reading.times import ordering_seconds
from data_pipelines.recipe import Recipe
from data_pipelines.rules.splits import (
    ByGroup,
    ByTime,
    GivenFiles,
    RandomSplit,
    StratifiedFolds,
    StratifiedFolds020,
)
from data_pipelines.sources.table import Source
from recsys.config.name_patterns import all_matching
from recsys.errors import RecsysError
from recsys.schema import TimeUnit


class RawChunk(NamedTuple):
    """Canonical columns of some rows of one file."""

    path: Path
    frame: pl.DataFrame
    dropped: int = 0  # rows that the label's rule left out


def read_chunks(
    source: Source, recipe: Recipe, raw: list[Path], dtypes: Dtypes
) -> Iterator[RawChunk]:
    """All rows of the raw files, in order, the label's rule applied where there is a label."""
    for path in source.files(raw):
        rows = 0
        labelled = recipe.label.column in dtypes
        for first_row, frame in prefetch(source.read(recipe, path, dtypes)):
            rows += len(frame)
            read = len(frame)
            if labelled:
                frame = apply_label(frame, recipe.label, path, first_row)
            yield RawChunk(path, frame, read - len(frame))
        if not rows:
            raise RecsysError("the file has no data rows", where=path)


def group_ids(values: pl.Series) -> pl.Series:
    """A stable int64 ≥ 0 for each group: hash64 of its text without the top bit; missing is 0."""
    values = values.alias("group_id")  # some methods take the name for a pattern
    hashes = (hash_distinct(values) >> np.uint64(1)).astype(np.int64)
    return pl.Series("group_id", hashes * values.is_not_null().to_numpy())


def write_arrow(frame: pl.DataFrame, path: Path) -> None:
    """One frame as an Arrow file."""
    table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)


def read_arrow(path: Path, columns: list[str] | None = None) -> pl.DataFrame:
    """The frame, or some of its columns, read into memory, not mapped."""
    with pa.OSFile(str(path), "rb") as file:
        names = pa.ipc.open_file(file).schema.names
        fields = [names.index(c) for c in columns] if columns is not None else None
        options = pa.ipc.IpcReadOptions(included_fields=fields)
        table = pa.ipc.open_file(file, options=options).read_all()
    return pl.DataFrame(pl.from_arrow(table))


@dataclass
class Staged:
    """Every row's codes, on disk in chunks; labels and what the split needs, in memory."""

    folder: Path
    chunk_rows: list[int] = field(default_factory=list)
    labels: list[NDArray[np.int8]] = field(default_factory=list)
    split_keys: list[NDArray[np.generic]] = field(default_factory=list)
    dropped_rows: dict[str, int] = field(default_factory=dict)  # by reason

    @property
    def rows(self) -> int:
        return sum(self.chunk_rows)

    def add(self, frame: pl.DataFrame) -> None:
        """Writes one chunk."""
        write_arrow(frame, self._path(len(self.chunk_rows)))
        self.chunk_rows.append(len(frame))
        self.labels.append(frame["label"].to_numpy())

    def chunks(self, columns: list[str] | None = None) -> Iterator[tuple[int, pl.DataFrame]]:
        """(number of the first row, frame) of each chunk, read into memory, not mapped."""
        first = 0
        for index, rows in enumerate(self.chunk_rows):
            yield first, read_arrow(self._path(index), columns)
            first += rows

    def _path(self, index: int) -> Path:
        return self.folder / f"chunk-{index:05d}.arrow"


def stage_chunk(
    recipe: Recipe, encoders: list[FeatureEncoder], frame: pl.DataFrame
) -> pl.DataFrame:
    """Codes by feature name, `label` and `group_id` where there are such columns."""
    columns = [e.stage(frame[e.feature.column]).alias(e.feature.name) for e in encoders]
    if "label" in frame.columns:
        columns.append(frame["label"])
    group = recipe.group_column
    if group and group in frame.columns:
        columns.append(group_ids(frame[group]))
    return pl.DataFrame(columns).rechunk()


def split_keys(recipe: Recipe, chunk: RawChunk) -> NDArray[np.generic]:
    """What the split must remember of each row: a time, or already the split."""
    rule = recipe.split
    if isinstance(rule, GivenFiles):
        return np.full(len(chunk.frame), _split_of_file(rule, chunk.path), np.uint8)
    name = split_column(recipe)
    if name is None:
        return np.empty(0, np.uint8)
    if isinstance(rule, ByTime):
        return parse_times(chunk.frame[name], chunk.path, unit=recipe.time.unit)
    assert isinstance(rule, ByGroup)
    return group_split(hash_distinct(chunk.frame[name].cast(pl.String)), rule.seed, rule.fractions)


def _split_of_file(rule: GivenFiles, path: Path) -> int:
    for code, patterns in enumerate((rule.train, rule.valid, rule.test)):
        if all_matching(patterns, [path.name]):
            return code
    raise RecsysError(
        "no split is given for a raw file",
        where=path,
        expected=f"train {rule.train}, valid {rule.valid} or test {rule.test}",
        fix=f"set split.train, split.valid or split.test to [{path.name}]",
    )


def parse_times(
    values: pl.Series, path: Path, first_row: int | None = None, unit: TimeUnit = "s"
) -> NDArray[np.float64]:
    """Numbers, divided by the `unit`s of a second; dates and times as seconds since 1970."""
    return ordering_seconds(values, unit, path, first_row).to_numpy()


def assign_splits(recipe: Recipe, staged: Staged) -> SplitCodes:
    """The split of every row; an empty split is an error."""
    keys = np.concatenate(staged.split_keys) if staged.split_keys else np.empty(0, np.uint8)
    match recipe.split:
        case RandomSplit(seed=seed, fractions=fractions):
            codes = random_split(staged.rows, seed, fractions)
        case StratifiedFolds(seed=seed, folds=folds):
            codes = split_of_folds(stratified_folds(np.concatenate(staged.labels), folds, seed))
        case StratifiedFolds020(seed=seed, folds=folds):
            fold_of_row = stratified_folds_0_20(np.concatenate(staged.labels), folds, seed)
            codes = split_of_folds(fold_of_row)
        case ByTime(column=None, fractions=fractions):
            codes = position_split(staged.rows, fractions)
        case ByTime(boundaries=boundaries, fractions=fractions):
            codes = time_split(keys.astype(np.float64), boundaries, fractions)
        case _:
            codes = keys.astype(np.uint8)
    times = keys if isinstance(recipe.split, ByTime) else keys[:0]
    check_splits(recipe, np.bincount(codes, minlength=len(SPLITS)), times)
    return codes


def check_splits(
    recipe: Recipe, sizes: NDArray[np.int64], times: NDArray[np.generic] | None = None
) -> None:
    """An empty split is an error; `times` of a split by time show what its boundaries missed."""
    for name, size in zip(SPLITS, sizes, strict=True):
        if not size:
            raise RecsysError(
                f"the split {name!r} is empty",
                where=f"split.method {recipe.split.method}, {sizes.sum()} rows",
                got=", ".join(f"{n} {s}" for n, s in zip(SPLITS, sizes, strict=True)),
                fix="change split.fractions, split.boundaries or the files" + _range_of(times),
            )


def _range_of(times: NDArray[np.generic] | None) -> str:
    if times is None or not len(times):
        return ""
    low, high = (np.format_float_positional(time, trim="-") for time in (times.min(), times.max()))
    return f"; the times are {low} to {high} (seconds, if time.unit is right)"
