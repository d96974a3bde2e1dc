"""Samples → rows with histories, in slices of a bucket, as ids or as raw text."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import polars as pl

from data_pipelines.encoding.encoders import FeatureEncoder, unnamed
from data_pipelines.events.columns import LogColumns
from data_pipelines.events.layout import ITEM, USER, EventPlan
from data_pipelines.events.samples import UserEvents
from data_pipelines.reading.chunks import make_lists
from recsys.errors import RecsysError

SLICE_ROWS = 1 << 15
SLICE_BEHAVIORS = 1 << 22  # of a history

Convert = Callable[[str, pl.Series], pl.Series]  # (feature, canonical values) → values of rows


class RowMaker:
    """Makes the columns of rows; `convert` maps canonical values to ids or keeps them."""

    def __init__(
        self,
        plan: EventPlan,
        columns: LogColumns,
        convert: Convert,
        extra_columns: Sequence[str] = (),
    ) -> None:
        self.plan, self.columns = plan, columns
        self.convert = convert
        features = {f.name: f.column for f in plan.features if f.name not in plan.histories}
        self.targets = features | {name: name for name in extra_columns}  # name → column
        # Converted once: text by code, and item columns by item.
        self.by_code = {
            name: convert(name, columns.codes[column].texts())
            for name, column in self.targets.items()
            if column in columns.codes
        }
        self.by_item = {
            name: self._values(name, columns.item_values(column))
            for name, column in self.targets.items()
            if column in (plan.rules.item, *plan.item_columns)
        }

    def rows(self, events: UserEvents, samples: pl.DataFrame) -> Iterator[tuple[int, pl.DataFrame]]:
        """Yields (split, frame) of bounded size; `samples` must be sorted by split."""
        frame = events.frame[events.behaviors]
        behaviors = {c: self.event_values(c, frame) for c in self.plan.histories.values()}
        size = min(SLICE_ROWS, max(1, SLICE_BEHAVIORS // self.plan.rules.max_length))
        for code in range(3):
            of_split = samples.filter(pl.col("split") == code)
            for part in of_split.iter_slices(size):
                yield code, self._frame(events, part, behaviors)

    def _frame(
        self, events: UserEvents, samples: pl.DataFrame, behaviors: dict[str, pl.Series]
    ) -> pl.DataFrame:
        rows = samples["event"].to_numpy()
        starts, lengths = events.window_start[rows], (events.window_end - events.window_start)[rows]
        in_window = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        positions = np.repeat(starts, lengths) + in_window  # of all histories' behaviors, in order
        targets = [
            unnamed(self.by_item[name]).gather(samples["item"])
            if name in self.by_item
            else self._values(name, unnamed(events.frame[column]).gather(rows))
            for name, column in self.targets.items()
        ]
        histories = [
            make_lists(unnamed(behaviors[column]).gather(positions), lengths)
            for column in self.plan.histories.values()
        ]
        names = [*self.targets, *self.plan.histories]
        columns = [c.alias(n) for c, n in zip([*targets, *histories], names, strict=True)]
        group = events.frame[USER].gather(rows).alias("group_id")
        return pl.DataFrame([*columns, samples["label"], group])

    def event_values(self, column: str, events: pl.DataFrame) -> pl.Series:
        """The converted values of a column for some events."""
        if column in self.by_item:
            return unnamed(self.by_item[column]).gather(events[ITEM])
        return self._values(column, events[column])

    def _values(self, column: str, staged: pl.Series) -> pl.Series:
        """The converted values of staged codes or numbers."""
        if column in self.by_code:
            return unnamed(self.by_code[column]).gather(staged)
        return self.convert(column, staged)


def to_ids(encoders: list[FeatureEncoder]) -> Convert:
    """Canonical values → ids and float32."""
    by_name = {e.feature.name: e for e in encoders}
    return lambda name, values: by_name[name].encode(by_name[name].stage(values))


def to_present_ids(encoders: list[FeatureEncoder]) -> Convert:
    """Canonical values → ids and float32, with null for missing values, to count them."""
    by_name = {e.feature.name: e for e in encoders}

    def convert(name: str, values: pl.Series) -> pl.Series:
        encoder = by_name[name]
        staged = encoder.stage(values)
        return encoder.encode(staged).set(encoder.is_missing(staged), None)

    return convert


def to_text(plan: EventPlan, separator: str) -> Convert:
    """Canonical values unchanged; values of histories must not contain the separator."""

    def check(name: str, values: pl.Series) -> pl.Series:
        if name in plan.histories.values():
            split = values.filter(values.str.contains(separator, literal=True).fill_null(False))
            if len(split):
                raise RecsysError(
                    f"a value of {name!r} contains the separator {separator!r} of histories",
                    where=name,
                    got=repr(split[0]),
                    fix="set sequence.separator to a text that is not in any value",
                )
        return values

    return check


def join_histories(frame: pl.DataFrame, plan: EventPlan, separator: str) -> pl.DataFrame:
    """Histories as text: null if empty, "" for a missing item."""
    return frame.with_columns(_joined(frame[name], separator) for name in plan.histories)


def _joined(histories: pl.Series, separator: str) -> pl.Series:
    history = pl.col("x")  # polars interprets some names as patterns
    texts = history.list.eval(pl.element().fill_null("")).list.join(separator)
    joined = histories.to_frame("x").select(pl.when(history.list.len() > 0).then(texts))
    return joined.to_series().alias(histories.name)
