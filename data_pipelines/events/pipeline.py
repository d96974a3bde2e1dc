"""An event log → rows with histories: read, divide by user, sample, fit, encode, write."""

import fnmatch
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl

from data_pipelines.encoding.encoders import FeatureEncoder, new_encoders
from data_pipelines.encoding.splits import SPLITS, check_splits, cut_points
from data_pipelines.encoding.staging import read_arrow, write_arrow
from data_pipelines.encoding.statistics import FeatureStatistics
from data_pipelines.events.columns import LogColumns
from data_pipelines.events.counts import TrainCounts, fit_numbers, fit_texts
from data_pipelines.events.layout import IS_TARGET, EventPlan
from data_pipelines.events.log import EventLog
from data_pipelines.events.negatives import Catalog
from data_pipelines.events.plan import check_item_features, make_event_plan
from data_pipelines.events.rows import RowMaker, join_histories, to_present_ids, to_text
from data_pipelines.events.samples import UserEvents, make_samples, sort_events
from data_pipelines.reading.arrow_values import canonical_frame
from data_pipelines.reading.chunks import prefetch
from data_pipelines.reading.files import expand_paths
from data_pipelines.recipe import Recipe
from data_pipelines.rules.splits import ByTime, SplitRule
from data_pipelines.source import Source
from data_pipelines.sources.item_tables import read_item_table
from data_pipelines.sources.joined import joined_part
from data_pipelines.sources.table import bound_numbers
from data_pipelines.writing import Progress, SplitWriter, Written, close_writers
from recsys.errors import RecsysError


class EventSamples:
    """The samples of a log on disk, in buckets of whole users: sorted events, and targets."""

    def __init__(self, log: EventLog, recipe: Recipe) -> None:
        self.log, self.recipe, self.rules = log, recipe, log.plan.rules
        self.counts = TrainCounts(log.plan, log.columns)
        self.sizes = np.zeros(len(SPLITS), np.int64)
        self._kept_events, self._targets = 0, 0

    @property
    def dropped_rows(self) -> dict[str, int]:
        """The numbers of events that are not targets of rows, by reason."""
        kept = self.log.rows - self._kept_events
        per_target = 1 + (self.rules.negatives.per_positive if self.rules.negatives else 0)
        reasons = {
            "events of users with fewer than events.min_events behaviours": kept,
            "events that are not targets (events.targets, label.rule)": self._kept_events
            - self._targets,
            "targets left out by min_history, every or per_user": self._targets
            - self.rows // per_target,
        }
        return {reason: count for reason, count in reasons.items() if count}

    @property
    def rows(self) -> int:
        return int(self.sizes.sum())

    def make(self, progress: Progress) -> None:
        """Chooses targets and draws negatives in all buckets, and counts the train rows."""
        split, catalog = _with_boundaries(self.recipe.split, self.log), self._catalog()
        for number in range(self.log.num_buckets):
            events = sort_events(self.log.read_bucket(number), self.rules)
            samples = make_samples(events, self.rules, split, catalog)
            self._kept_events += len(events.frame)
            self._targets += int(events.frame[IS_TARGET].sum())
            self.sizes += np.bincount(samples["split"], minlength=len(SPLITS))
            self.counts.add(events, samples.filter(pl.col("split") == 0))
            write_arrow(events.frame.rechunk(), self._path("events", number))
            write_arrow(samples.rechunk(), self._path("samples", number))
            progress("sample", self.rows, None)

    def _catalog(self) -> Catalog | None:
        if self.rules.negatives is None:
            return None
        texts = self.log.columns.item_codes.texts()
        return Catalog.of(texts, self.log.target_counts, self.rules.negatives)

    def buckets(self) -> Iterator[tuple[UserEvents, pl.DataFrame]]:
        """Yields the events and samples of each bucket."""
        for number in range(self.log.num_buckets):
            frame = read_arrow(self._path("events", number))
            yield UserEvents.of(frame, self.rules), read_arrow(self._path("samples", number))

    def _path(self, what: str, number: int) -> Path:
        return self.log.folder / f"{what}-{number:05d}.arrow"

    def slices(self, maker: RowMaker) -> Iterator[tuple[int, pl.DataFrame]]:
        """Yields (split, rows) of bounded size."""
        for events, samples in self.buckets():
            yield from maker.rows(events, samples)


def read_log(
    recipe: Recipe,
    source: Source,
    raw: list[Path],
    folder: Path,
    progress: Progress,
    keep_user: bool = False,
) -> tuple[list[FeatureEncoder], EventLog]:
    """Reads the log once, into buckets of users; the encoders are not fitted yet."""
    logs, tables = _divide_files(recipe, source, raw)
    table = _read_item_tables(recipe, tables)
    columns = source.columns(recipe, logs[0])
    table_columns = table.columns if table is not None else []
    plan = make_event_plan(recipe, columns, table_columns, keep_user)
    if joined := joined_part(source):
        of_item = joined.columns_of(plan.rules.item)
        check_item_features(plan.event_columns, of_item, "is joined by the item")
    encoders = new_encoders(plan.features)
    typed_table = None if table is None else _typed(table, plan, recipe)
    log = EventLog(folder, recipe, plan, LogColumns(plan, encoders, typed_table))
    dtypes = {name: dtype for name, dtype in plan.dtypes.items() if name in columns}
    for path in logs:
        rows = log.rows
        for first_row, frame in prefetch(source.read(recipe, path, dtypes)):
            log.add(frame, path, first_row)
            progress("read", log.rows, None)
        if log.rows == rows:
            raise RecsysError("the file has no data rows", where=path)
    _check_actions(log)
    log.warnings = log.columns.warnings
    log.divide()
    return encoders, log


def _divide_files(recipe: Recipe, source: Source, raw: list[Path]) -> tuple[list[Path], list[Path]]:
    """The files of the log, and those of the item table."""
    patterns = recipe.events.items.files if recipe.events and recipe.events.items else ()
    if not patterns:
        return source.files(raw), []
    files = expand_paths(raw)
    tables = [p for p in files if any(fnmatch.fnmatch(p.name, x) for x in patterns)]
    logs = [p for p in files if p not in tables]
    for found, what in ((logs, "log"), (tables, "item table")):
        if not found:
            raise RecsysError(
                f"{what} not found among the raw files",
                where=", ".join(map(str, raw)),
                expected=f"the log, and item tables named {' or '.join(patterns)}",
                fix="pass both to --raw, or change events.items.files",
            )
    return source.files(logs), tables


def _read_item_tables(recipe: Recipe, paths: list[Path]) -> pl.DataFrame | None:
    """The item features as text, with the item column of the log."""
    assert recipe.events is not None
    if not recipe.events.items:
        return None
    tables = [read_item_table(path, recipe.events.items) for path in paths]
    names = {recipe.events.items.item: recipe.events.item}
    return pl.concat(tables, how="diagonal").rename(names)


def _typed(table: pl.DataFrame, plan: EventPlan, recipe: Recipe) -> pl.DataFrame:
    """The item table with the columns of numerical features as numbers."""
    where = "the item table"
    dtypes = {c: pl.Float64() for c in table.columns if plan.dtypes.get(c) == pl.Float64}
    numbers = canonical_frame(table, dict(dtypes), set(), where)
    return bound_numbers(table.with_columns(*numbers), recipe.numerical.out_of_range, where)


def _check_actions(log: EventLog) -> None:
    """Raises RecsysError if no event has the listed actions, which may be misspelled."""
    rules = log.plan.rules
    for what, where, found, actions in (
        ("target", "events.targets.actions", log.target_counts.any(), rules.targets.actions),
        ("behavior", "events.behaviours", log.num_behaviors, rules.behaviours),
    ):
        if not found:
            raise RecsysError(
                f"no event is a {what}",
                where=f"{where}, {log.rows} events",
                expected=f"{', '.join(actions) or 'any value'} in the column {rules.action!r}",
                fix="check events.action and the spelling of its values",
            )


def _with_boundaries(split: SplitRule, log: EventLog) -> SplitRule:
    """The split; by time, fractions become boundaries at the times of the log's targets."""
    if not isinstance(split, ByTime) or split.boundaries is not None:
        return split
    times = np.sort(log.target_times.values)
    ends = np.minimum(cut_points(len(times), split.fractions), len(times) - 1)
    return split.model_copy(update={"boundaries": tuple(float(t) for t in times[ends])})


def build_events(
    recipe: Recipe, source: Source, raw: list[Path], folder: Path, progress: Progress
) -> tuple[Written, EventSamples]:
    """Reads the log, makes samples, fits to the train rows and writes the splits."""
    encoders, log = read_log(recipe, source, raw, folder / "staged", progress)
    samples = EventSamples(log, recipe)
    samples.make(progress)
    check_splits(recipe, samples.sizes)
    fit_texts(encoders, samples.counts)
    fit_numbers(encoders, log.columns, samples.buckets)
    return _write(encoders, samples, folder, progress), samples


def _write(
    encoders: list[FeatureEncoder], samples: EventSamples, folder: Path, progress: Progress
) -> Written:
    """Writes the Parquet files of all splits."""
    maker = RowMaker(samples.log.plan, samples.log.columns, to_present_ids(encoders))
    writers = [SplitWriter(folder, name) for name in SPLITS]
    statistics = [FeatureStatistics(encoder) for encoder in encoders]
    done = 0
    for code, frame in prefetch(samples.slices(maker)):
        labels = frame["label"]
        counted = [one.add_present(code, frame[one.feature.name], labels) for one in statistics]
        writers[code].add(frame.with_columns(counted))
        done += len(frame)
        progress("write", done, samples.rows)
    return Written(close_writers(writers), statistics, samples.dropped_rows, samples.log.warnings)


def read_samples(recipe: Recipe, source: Source, raw: list[Path]) -> Iterator[pl.DataFrame]:
    """Yields the samples of a log as canonical raw columns: the user, text, numbers, `label`."""
    separator = recipe.sequence.separator
    with tempfile.TemporaryDirectory() as folder:
        _, log = read_log(recipe, source, raw, Path(folder), no_progress, keep_user=True)
        samples = EventSamples(log, recipe)
        samples.make(no_progress)
        plan = log.plan.of_raw_columns()
        maker = RowMaker(plan, log.columns, to_text(plan, separator), [plan.rules.user])
        for _, frame in samples.slices(maker):
            yield join_histories(frame.drop("group_id"), plan, separator)


def no_progress(stage: str, done: int, total: int | None) -> None:
    """Reports nothing."""
