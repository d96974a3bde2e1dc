"""Counts of encoded values by feature and split, and the warnings derived from them.

Rows are counted while they are written: missing values, values that are not in the vocabulary (id
0), distinct ids, and, for a warning, the AUC of a single feature.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from data_pipelines.encoding.encoders import FeatureEncoder, null_items, unnamed
from data_pipelines.encoding.splits import SPLITS, SplitCodes
from data_pipelines.encoding.vocabulary import Int64s
from recsys.schema import FeatureCounts, Split

TRAIN, VALID = SPLITS.index("train"), SPLITS.index("valid")
MAX_UNSEEN = 0.5  # a larger share of unseen values is a warning
# A single feature with this AUC on valid rows, with as many rows of either label, leaks the label.
LEAK_AUC, LEAK_ROWS = 0.99, 20
EXACT_BELOW = 1 << 24  # float32 represents all integers up to here
MAX_RATED_IDS, MAX_RATED_ROWS = 1 << 12, 1 << 17


class FeatureStatistics:
    """The counts of a feature in each split."""

    def __init__(self, encoder: FeatureEncoder) -> None:
        self.encoder, self.feature = encoder, encoder.describe()
        self.values = np.zeros(len(SPLITS), np.int64)
        self.missing: Int64s | None = None  # None: not counted separately from unseen values
        self.zeros = np.zeros(len(SPLITS), np.int64)
        cardinality = self.feature.cardinality or 0
        self.seen = [np.zeros(cardinality, np.bool_) for _ in SPLITS]
        is_rated = self.feature.kind == "categorical" and cardinality <= MAX_RATED_IDS
        shape = (len(SPLITS), 2, cardinality if is_rated else 0)
        self.rows_by_label = np.zeros(shape, np.int64)  # split, label, id
        self.largest = 0.0  # absolute value, in float32
        self.train_range = (np.inf, -np.inf)  # in float32
        self.numbers: list[tuple[NDArray[np.float32], NDArray[np.int8]]] = []

    def add(self, code: int, column: pl.Series, labels: pl.Series) -> None:
        """Counts encoded values of some rows of a split."""
        column = unnamed(column)
        if self.feature.kind == "sequence":
            column = column.filter(column.list.len() > 0).explode()
        self.values[code] += len(column)
        values = column.to_numpy()
        if self.feature.kind == "numerical":
            self.largest = max(self.largest, float(np.abs(values).max(initial=0.0)))
            if code == TRAIN and len(values):
                low, high = self.train_range
                self.train_range = min(low, float(values.min())), max(high, float(values.max()))
            if code == VALID and sum(len(v) for v, _ in self.numbers) < MAX_RATED_ROWS:
                self.numbers.append((values, labels.to_numpy()))
            return
        self.zeros[code] += int((column == 0).sum())
        self.seen[code][values] = True
        if self.rows_by_label.shape[2] and code in (TRAIN, VALID):
            keys = values * 2 + labels.to_numpy()
            size = self.rows_by_label.shape[2]
            counts = np.bincount(keys, minlength=2 * size).reshape(size, 2)
            self.rows_by_label[code] += counts.T

    def add_present(self, code: int, column: pl.Series, labels: pl.Series) -> pl.Series:
        """Counts values with null for missing ones; returns them with null replaced."""
        is_list = self.feature.kind == "sequence"
        missing = np.zeros(len(SPLITS), np.int64)
        missing[code] = null_items(column) if is_list else column.null_count()
        self.add_missing(missing)
        filled = self.encoder.fill(column)
        self.add(code, filled, labels)
        return filled

    def add_missing(self, counts: Int64s) -> None:
        """Adds numbers of missing values, by split."""
        self.missing = counts if self.missing is None else self.missing + counts

    def counts(self) -> dict[str, FeatureCounts]:
        """The counts for schema.json, by split."""
        return {split: self._counts(code) for code, split in enumerate(SPLITS)}

    def _counts(self, code: int) -> FeatureCounts:
        missing = None if self.missing is None else int(self.missing[code])
        is_number = self.feature.kind == "numerical"
        return FeatureCounts(
            values=int(self.values[code]),
            missing=missing,
            unseen=0 if is_number else int(self.zeros[code]) - (missing or 0),
            distinct=None if is_number else int(self.seen[code][1:].sum()),
        )

    def label_auc(self) -> float | None:
        """The AUC of the feature alone on valid rows; None if not rated or for too few rows.

        The score of an id is the rate of label 1 in its train rows; the score of a number is the
        number or its negative.
        """
        if self.feature.kind == "numerical":
            return _number_auc(self.numbers)
        if not self.rows_by_label.shape[2]:
            return None
        train, (negatives, positives) = self.rows_by_label[TRAIN], self.rows_by_label[VALID]
        rates = (train[1] + 0.5) / (train.sum(axis=0) + 1.0)
        return _auc_of_groups(rates, negatives, positives)


def count_missing(encoder: FeatureEncoder, staged: pl.Series, codes: SplitCodes) -> Int64s:
    """The number of missing values (of a sequence: items) of staged rows, by split."""
    staged = unnamed(staged)
    if encoder.feature.kind == "sequence":
        lengths = staged.list.len().to_numpy()
        codes = np.repeat(codes, lengths)
        staged = staged.filter(staged.list.len() > 0).explode()
    mask = encoder.is_missing(staged)
    if not mask.any():
        return np.zeros(len(SPLITS), np.int64)
    return np.bincount(codes[mask.to_numpy()], minlength=len(SPLITS)).astype(np.int64)


def find_warnings(
    statistics: Sequence[FeatureStatistics], splits: Mapping[str, Split]
) -> list[str]:
    """Warnings that a user should read before training."""
    found = [
        f"every row of the {name} split has label {int(split.positives > 0)}"
        for name, split in splits.items()
        if split.positives in (0, split.rows)
    ]
    for one in statistics:
        found += _warnings_of(one)
    return found


def _warnings_of(statistics: FeatureStatistics) -> list[str]:
    name, counts, found = statistics.feature.name, statistics.counts(), []
    for split in ("valid", "test"):
        present = counts[split].values - (counts[split].missing or 0)
        share = counts[split].unseen / present if present else 0.0
        if share > MAX_UNSEEN:
            found.append(f"{name}: {share:.1%} of the {split} values are not in the vocabulary")
    train = counts["train"]
    if train.values and train.missing == train.values:
        found.append(f"{name}: every train value is missing")
    elif train.values and train.distinct is not None and train.distinct <= 1:
        what = "one value" if train.distinct else "no value that is frequent enough"
        found.append(f"{name}: the train rows have {what}")
    elif statistics.train_range[0] == statistics.train_range[1]:
        found.append(f"{name}: the train rows have one value, {statistics.train_range[0]:g}")
    if statistics.largest > EXACT_BELOW:
        found.append(
            f"{name}: values up to {statistics.largest:.4g}: float32 cannot represent all integers "
            f"above {EXACT_BELOW:,}, and training may diverge; use the transform standardize or "
            "quantile_buckets, or log if the values span orders of magnitude"
        )
    auc = statistics.label_auc()
    if auc is not None and auc >= LEAK_AUC:
        found.append(f"{name}: its AUC alone on valid rows is {auc:.4f}; it may contain the label")
    return found


def _number_auc(parts: list[tuple[NDArray[np.float32], NDArray[np.int8]]]) -> float | None:
    if not parts:
        return None
    values, labels = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    groups, places = np.unique(values, return_inverse=True)
    positives = np.bincount(places, weights=labels, minlength=len(groups)).astype(np.int64)
    totals = np.bincount(places, minlength=len(groups))
    auc = _auc_of_groups(groups, totals - positives, positives)
    return None if auc is None else max(auc, 1.0 - auc)


def _auc_of_groups(
    scores: NDArray[np.floating], negatives: Int64s, positives: Int64s
) -> float | None:
    """The AUC of rows with the score of their group (G,); ties count half."""
    if min(negatives.sum(), positives.sum()) < LEAK_ROWS:
        return None
    _, places = np.unique(scores, return_inverse=True)
    negatives = np.bincount(places, weights=negatives)
    positives = np.bincount(places, weights=positives)
    below = np.cumsum(negatives) - negatives
    wins = (positives * (below + negatives / 2)).sum()
    return float(wins / (negatives.sum() * positives.sum()))
