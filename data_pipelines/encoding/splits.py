"""Splits of rows. A split is one uint8 for each row: 0 train, 1 valid, 2 test."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from data_pipelines.encoding.hashing import finalize, hash_distinct
from data_pipelines.reading.times import order_times
from data_pipelines.recipe import Recipe
from data_pipelines.rules.splits import (
    ByGroup,
    ByTime,
    GivenFiles,
    RandomSplit,
    StratifiedFolds,
    StratifiedFolds020,
)
from recsys.config.name_patterns import all_matching
from recsys.errors import RecsysError

SPLITS = ("train", "valid", "test")

SplitCodes = NDArray[np.uint8]


def cut_points(rows: int, fractions: tuple[float, float, float]) -> tuple[int, int]:
    """The row numbers where train and valid end: cumulative fractions, rounded down."""
    train, valid, _ = fractions
    return int(train * rows), int(round(train + valid, 12) * rows)


def random_split(rows: int, seed: int, fractions: tuple[float, float, float]) -> SplitCodes:
    """Cuts `default_rng(seed).permutation(rows)`: first train, then valid, then test."""
    numbers = np.arange(rows, dtype=np.uint32)  # half the memory of permutation(rows), same order
    order = np.random.default_rng(seed).permutation(numbers)
    train_end, valid_end = cut_points(rows, fractions)
    codes = np.zeros(rows, np.uint8)
    codes[order[train_end:valid_end]] = 1
    codes[order[valid_end:]] = 2
    return codes


def stratified_folds(labels: NDArray[np.int8], folds: int, seed: int) -> NDArray[np.uint8]:
    """The test fold of each row, equal to `StratifiedKFold(shuffle=True)` of scikit-learn 0.19.1.

    The rows of each class are shuffled with a new generator, `RandomState(seed)`, and cut into
    `folds` parts of nearly equal length.
    """
    return _folds_by_class(labels, folds, lambda: np.random.RandomState(seed))


def stratified_folds_0_20(labels: NDArray[np.int8], folds: int, seed: int) -> NDArray[np.uint8]:
    """The test fold of each row, equal to that of scikit-learn 0.20 and 0.21.

    One `RandomState(seed)` shuffles all classes, label 0 first.
    """
    generator = np.random.RandomState(seed)
    return _folds_by_class(labels, folds, lambda: generator)


def _folds_by_class(
    labels: NDArray[np.int8], folds: int, generator: Callable[[], np.random.RandomState]
) -> NDArray[np.uint8]:
    """`generator` returns the generator that shuffles the next class."""
    fold_of_row = np.zeros(len(labels), np.uint8)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        order = np.arange(max(len(rows), folds))
        generator().shuffle(order)
        sizes = np.full(folds, len(order) // folds)
        sizes[: len(order) % folds] += 1
        fold_of_member = np.empty(len(order), np.uint8)
        fold_of_member[order] = np.repeat(np.arange(folds, dtype=np.uint8), sizes)
        fold_of_row[rows] = fold_of_member[: len(rows)]
    return fold_of_row


def split_of_folds(fold_of_row: NDArray[np.uint8]) -> SplitCodes:
    """Fold 0 is test, fold 1 valid, the rest train, as in Criteo_x4 and Avazu_x4."""
    split_of_fold = np.zeros(256, np.uint8)
    split_of_fold[:2] = 2, 1
    return split_of_fold[fold_of_row]


def time_split(
    times: NDArray[np.float64],
    boundaries: tuple[float, float] | None,
    fractions: tuple[float, float, float],
) -> SplitCodes:
    """Train before the first boundary, valid before the second, then test.

    Without boundaries, the fractions choose them; rows of equal time are in the same split.
    """
    if boundaries is None:
        ordered = np.sort(times)
        train_end, valid_end = cut_points(len(times), fractions)
        last = len(times) - 1
        boundaries = float(ordered[min(train_end, last)]), float(ordered[min(valid_end, last)])
    return np.searchsorted(np.array(boundaries), times, side="right").astype(np.uint8)


def position_split(rows: int, fractions: tuple[float, float, float]) -> SplitCodes:
    """The first rows are train, the next valid, the last test: for files in time order."""
    return np.searchsorted(cut_points(rows, fractions), np.arange(rows), side="right").astype(
        np.uint8
    )


def group_split(
    hashes: NDArray[np.uint64], seed: int, fractions: tuple[float, float, float]
) -> SplitCodes:
    """Splits by the hash of the group and the seed; all rows of a group are in one split."""
    salted = finalize(hashes + finalize(np.full(1, seed, np.uint64)))
    edges = np.array([fractions[0], round(fractions[0] + fractions[1], 12)])
    return np.searchsorted(edges, salted / 2.0**64, side="right").astype(np.uint8)


def split_keys(recipe: Recipe, frame: pl.DataFrame, path: Path) -> NDArray[np.generic]:
    """The key of each row that `assign_splits` needs: a time, the split itself, or nothing."""
    rule = recipe.split
    if isinstance(rule, GivenFiles):
        return np.full(len(frame), _split_of_file(rule, path), np.uint8)
    name = recipe.split_column
    if name is None:
        return np.empty(0, np.uint8)
    if isinstance(rule, ByTime):
        return order_times(frame[name], recipe.time.unit, path).to_numpy()
    assert isinstance(rule, ByGroup)
    return group_split(hash_distinct(frame[name].cast(pl.String)), rule.seed, rule.fractions)


def _split_of_file(rule: GivenFiles, path: Path) -> int:
    for code, patterns in enumerate((rule.train, rule.valid, rule.test)):
        if all_matching(patterns, [path.name]):
            return code
    raise RecsysError(
        "the split has no pattern for a raw file",
        where=path,
        expected=f"train {rule.train}, valid {rule.valid} or test {rule.test}",
        fix=f"set split.train, split.valid or split.test to [{path.name}]",
    )


def assign_splits(
    recipe: Recipe, labels: NDArray[np.int8], keys: NDArray[np.generic]
) -> SplitCodes:
    """The split of each row (`labels` and `keys` of `split_keys`: (rows,)); none may be empty."""
    match recipe.split:
        case RandomSplit(seed=seed, fractions=fractions):
            codes = random_split(len(labels), seed, fractions)
        case StratifiedFolds(seed=seed, folds=folds):
            codes = split_of_folds(stratified_folds(labels, folds, seed))
        case StratifiedFolds020(seed=seed, folds=folds):
            fold_of_row = stratified_folds_0_20(labels, folds, seed)
            codes = split_of_folds(fold_of_row)
        case ByTime(column=None, fractions=fractions):
            codes = position_split(len(labels), fractions)
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
    """Raises RecsysError for an empty split; its message has the range of `times`, if any."""
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
    return f"; the times are {low} to {high} (seconds, if time.unit is correct)"
