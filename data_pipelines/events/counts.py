"""Counts of values in train rows without building the rows: a window adds +1 and -1."""

from collections.abc import Callable, Iterable

import numpy as np
import polars as pl

from data_pipelines.encoding.encoders import FeatureEncoder, unnamed
from data_pipelines.encoding.vocabulary import Int64s
from data_pipelines.events.columns import LogColumns
from data_pipelines.events.layout import ITEM, EventPlan
from data_pipelines.events.samples import UserEvents

Buckets = Callable[[], Iterable[tuple[UserEvents, pl.DataFrame]]]


class TrainCounts:
    """The number of occurrences of each code in train rows, including histories, by column."""

    def __init__(self, plan: EventPlan, columns: LogColumns) -> None:
        self.plan, self.columns = plan, columns
        size = columns.item_codes.size
        self._item_rows = np.zeros(size, np.int64)
        self._item_histories = np.zeros(size, np.int64)
        self._of_events = {
            name: np.zeros(columns.codes[name].size, np.int64)
            for name in plan.event_columns
            if name in columns.codes
        }

    def add(self, events: UserEvents, train: pl.DataFrame) -> None:
        """Counts the train samples of a bucket."""
        rows = train["event"].to_numpy()
        items = events.frame[ITEM].to_numpy()
        in_histories = count_in_windows(events, rows)
        np.add.at(self._item_rows, train["item"].to_numpy(), 1)
        np.add.at(self._item_histories, items[events.behaviors], in_histories)
        for name, counts in self._of_events.items():
            codes = events.frame[name].to_numpy()
            np.add.at(counts, codes[rows], 1)
            if name in self.plan.histories.values():
                np.add.at(counts, codes[events.behaviors], in_histories)

    def of(self, name: str) -> Int64s:
        """The occurrences of each code in a column and in its history."""
        if name in self._of_events:
            return self._of_events[name]
        has_history = name in self.plan.histories.values()
        by_item = self._item_rows + (self._item_histories if has_history else 0)
        counts = np.zeros(self.columns.codes[name].size, np.int64)
        np.add.at(counts, self.columns.item_values(name).to_numpy(), by_item)
        return counts


def count_in_windows(events: UserEvents, rows: Int64s) -> Int64s:
    """The number of the rows' histories that contain each behavior, (behaviors,)."""
    size = len(events.behaviors) + 1
    opened = np.bincount(events.window_start[rows], minlength=size)
    closed = np.bincount(events.window_end[rows], minlength=size)
    return np.cumsum(opened - closed)[:-1]


def fit_texts(encoders: list[FeatureEncoder], counts: TrainCounts) -> None:
    """Fits the vocabularies of text columns; a history has the vocabulary of its column."""
    owners = [
        e
        for e in encoders
        if e.feature.name not in counts.plan.histories and e.feature.name in counts.columns.codes
    ]
    for encoder in owners:
        name = encoder.feature.name
        if encoder.rounds:
            texts = counts.columns.codes[name].texts()
            encoder.fit(encoder.stage(texts), counts.of(name))
    for encoder in owners:
        if encoder.rounds:
            encoder.end_round(0)


def fit_numbers(encoders: list[FeatureEncoder], columns: LogColumns, buckets: Buckets) -> None:
    """Fits transforms of numerical columns, and vocabularies of bucket tokens."""
    numbers = [e for e in encoders if e.rounds and e.feature.column in _numerical(columns)]
    for round_number in range(max((e.rounds for e in numbers), default=0)):
        active = [e for e in numbers if round_number < e.rounds]
        for events, samples in buckets():
            train = samples.filter(pl.col("split") == 0)
            for encoder in active:
                name = encoder.feature.column
                if name in columns.items:
                    values = unnamed(columns.item_values(name)).gather(train["item"])
                else:
                    values = unnamed(events.frame[name]).gather(train["event"])
                encoder.fit(encoder.stage(values))
        for encoder in active:
            encoder.end_round(round_number)


def _numerical(columns: LogColumns) -> set[str]:
    plan = columns.plan
    return {n for n in (*plan.item_columns, *plan.event_columns) if n not in columns.codes}
