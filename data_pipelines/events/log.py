"""One pass over an event log: compact rows on disk, divided into buckets of whole users."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from data_pipelines.encoding.labels import label_values
from data_pipelines.encoding.staging import group_ids, read_arrow, write_arrow
from data_pipelines.encoding.transforms import SpacedSample
from data_pipelines.encoding.vocabulary import grown
from data_pipelines.events.columns import LogColumns
from data_pipelines.events.layout import IS_BEHAVIOR, IS_TARGET, ITEM, LABEL, TIME, USER, EventPlan
from data_pipelines.reading.times import order_times
from data_pipelines.recipe import Recipe
from recsys.errors import RecsysError

BUCKET_EVENTS = 1 << 20


class EventLog:
    """The staged events of a log, and counts of them."""

    def __init__(self, folder: Path, recipe: Recipe, plan: EventPlan, columns: LogColumns) -> None:
        self.folder, self.recipe, self.plan, self.columns = folder, recipe, plan, columns
        self.rows = 0
        self.num_behaviors = 0
        self.warnings: tuple[str, ...] = ()
        self.num_buckets = 0
        self.target_times = SpacedSample()
        self.target_counts = np.zeros(1, np.int64)  # by item code
        self._chunks: list[Path] = []

    def add(self, frame: pl.DataFrame, path: Path, first_row: int) -> None:
        """Stages a chunk of the log."""
        staged = self._stage(frame, path, first_row)
        targets = staged.filter(pl.col(IS_TARGET))
        items = targets[ITEM].to_numpy()
        self.num_behaviors += int(staged[IS_BEHAVIOR].sum())
        self.target_counts = grown(self.target_counts, self.columns.item_codes.size)
        np.add.at(self.target_counts, items, 1)
        if TIME in staged.columns:
            self.target_times.add(targets[TIME].to_numpy())
        self._chunks.append(self.folder / f"chunk-{len(self._chunks):05d}.arrow")
        write_arrow(staged.rechunk(), self._chunks[-1])
        self.rows += len(frame)

    def _stage(self, frame: pl.DataFrame, path: Path, first_row: int) -> pl.DataFrame:
        rules = self.plan.rules
        for name in filter(None, (rules.user, rules.item, rules.time)):
            _check_present(frame[name], path, first_row)
        staged = [
            group_ids(frame[rules.user]).alias(USER),
            pl.Series(ITEM, self.columns.stage_items(frame)),
            _one_of(frame, rules.action, rules.behaviours).alias(IS_BEHAVIOR),
            _one_of(frame, rules.action, rules.targets.actions).alias(IS_TARGET),
        ]
        if rules.time:
            times = order_times(frame[rules.time], self.recipe.time.unit, path, first_row)
            staged.append(times.alias(TIME))
        if self.plan.has_labels:
            labels = label_values(frame, self.recipe.label, path, first_row)
            staged[3] = (staged[3] & labels.is_not_null()).alias(IS_TARGET)
            staged.append(labels.fill_null(0).alias(LABEL))
        events = [self.columns.stage(name, frame[name]) for name in self.plan.event_columns]
        return pl.DataFrame([*staged, *events])

    def divide(self) -> None:
        """Rewrites the chunks as buckets: a user's events are in one bucket, in the log's order."""
        self.num_buckets = max(1, -(-self.rows // BUCKET_EVENTS))
        with contextlib.ExitStack() as stack:
            writers: list[pa.ipc.RecordBatchStreamWriter] = []
            for path in self._chunks:
                frame = read_arrow(path)
                path.unlink()
                buckets = frame[USER].to_numpy() % self.num_buckets
                order = np.argsort(buckets, kind="stable")
                table = frame[order].to_arrow(compat_level=pl.CompatLevel.oldest())
                ends = np.cumsum(np.bincount(buckets, minlength=self.num_buckets))
                if not writers:
                    writers = [stack.enter_context(w) for w in self._open_buckets(table.schema)]
                for writer, start, end in zip(writers, [0, *ends[:-1]], ends, strict=True):
                    writer.write_table(table.slice(start, end - start))

    def _open_buckets(self, schema: pa.Schema) -> Iterator[pa.ipc.RecordBatchStreamWriter]:
        for number in range(self.num_buckets):
            yield pa.ipc.new_stream(str(self._bucket(number)), schema)

    def read_bucket(self, number: int) -> pl.DataFrame:
        """Reads the events of a bucket in the log's order, and deletes its file."""
        path = self._bucket(number)
        with pa.OSFile(str(path), "rb") as file:
            table = pa.ipc.open_stream(file).read_all()
        path.unlink()
        return pl.DataFrame(pl.from_arrow(table)).rechunk()

    def _bucket(self, number: int) -> Path:
        return self.folder / f"bucket-{number:05d}.arrows"


def _check_present(values: pl.Series, path: Path, first_row: int) -> None:
    if values.null_count():
        row = int(values.is_null().arg_true()[0])
        raise RecsysError(
            f"missing value in the column {values.name!r}",
            where=f"{path}, data row {first_row + row}",
            expected="events with user, item and time",
            got="an empty field",
        )


def _one_of(frame: pl.DataFrame, column: str | None, actions: tuple[str, ...]) -> pl.Series:
    if column and actions:
        return frame[column].alias("x").is_in(actions).fill_null(False)
    return pl.repeat(True, len(frame), eager=True)
