"""Transforms of numbers: applied to float64 columns, and fitted on train rows."""

import math

import numpy as np
import polars as pl

from data_pipelines.rules.columns import QuantileBucketsRule, StandardizeRule
from recsys.errors import RecsysError
from recsys.schema import (
    TICKS_PER_SECOND,
    CriteoBucket,
    Hour,
    Keep,
    Log,
    QuantileBuckets,
    Standardize,
    Transform,
    Weekday,
)

FIT_SAMPLE = 1 << 20
THURSDAY = 4  # 1970-01-01; Sunday is 0


def apply_transform(transform: Transform, values: pl.Series) -> pl.Series:
    """float64 (rows,) → float32 without nulls, or int64 tokens (null if missing).

    >>> apply_transform(CriteoBucket(), pl.Series("clicks", [2.0, 30.0])).to_list()
    [2, 11]
    """
    column = pl.col(values.name)
    match transform:
        case Keep(missing=missing):
            result = column.fill_null(missing).cast(pl.Float32)
        case Log(missing=missing):
            result = column.clip(lower_bound=0).log1p().fill_null(missing).cast(pl.Float32)
        case Standardize(mean=mean, std=std):
            result = ((column - mean) / std).fill_null(0.0).cast(pl.Float32)
        case CriteoBucket(missing=missing, absent=absent, shift=shift):
            logs = column.log()
            tokens = pl.when(column > 2).then((logs * logs).floor() + shift).otherwise(column)
            tokens = tokens.cast(pl.Int64, strict=False).fill_null(pl.lit(missing, pl.Int64))
            result = (
                pl.when(tokens.is_in(absent)).then(None).otherwise(tokens) if absent else tokens
            )
        case QuantileBuckets(edges=edges):
            counts = np.searchsorted(np.array(edges), values.to_numpy(), side="right")
            result = pl.when(column.is_not_null()).then(pl.Series(counts, dtype=pl.Int64))
        case Hour(unit=unit):
            seconds = column / TICKS_PER_SECOND[unit]
            result = (seconds / 3600.0).floor().cast(pl.Int64) % 24
        case Weekday(unit=unit):
            seconds = column / TICKS_PER_SECOND[unit]
            result = ((seconds / 86_400.0).floor().cast(pl.Int64) + THURSDAY) % 7
    return values.to_frame().select(result).to_series()


class SpacedSample:
    """A sample of at most 2²⁰ evenly spaced numbers of a stream."""

    def __init__(self) -> None:
        self.values = np.empty(0)
        self.stride = 1
        self._seen = 0

    def add(self, values: np.ndarray) -> None:
        """Keeps every stride-th value; the stride is doubled when the sample is full."""
        self.values = np.append(self.values, values[-self._seen % self.stride :: self.stride])
        self._seen += len(values)
        while len(self.values) > FIT_SAMPLE:
            self.values = self.values[::2]
            self.stride *= 2


class TransformFit:
    """Fits a transform to the train rows, chunk by chunk, in bounded memory."""

    def __init__(self, rule: StandardizeRule | QuantileBucketsRule, feature: str) -> None:
        self.rule = rule
        self.feature = feature
        self.count = 0
        self.mean = 0.0
        self.squares = 0.0
        self.sample = SpacedSample()

    def add(self, values: pl.Series) -> None:
        """Adds values of train rows; missing ones are ignored."""
        present = values.drop_nulls().to_numpy()
        if not len(present):
            return
        if isinstance(self.rule, StandardizeRule):
            self._add_moments(present)
        else:
            self.sample.add(present)

    def _add_moments(self, present: np.ndarray) -> None:
        count, mean = self.count + len(present), float(present.mean())
        delta = mean - self.mean
        self.squares += float(((present - mean) ** 2).sum())
        self.squares += delta * delta * self.count * len(present) / count
        self.mean += delta * len(present) / count
        self.count = count

    def fitted(self) -> Transform:
        """Returns the fitted transform."""
        if isinstance(self.rule, StandardizeRule):
            std = math.sqrt(self.squares / self.count) if self.count else 0.0
            return Standardize(mean=self.mean, std=std or 1.0)
        if not len(self.sample.values):
            raise RecsysError(
                f"cannot fit the transform of {self.feature!r}: all train values are missing",
                fix="remove the column, or use the transform keep",
            )
        shares = np.arange(1, self.rule.num_buckets) / self.rule.num_buckets
        edges = np.unique(np.quantile(self.sample.values, shares, method="inverted_cdf"))
        return QuantileBuckets(edges=tuple(float(edge) for edge in edges))
