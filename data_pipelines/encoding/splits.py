"""Which rows go to which split. A split is one uint8 per row: 0 train, 1 valid, 2 test."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from data_pipelines.encoding.hashing import finalise

SPLITS = ("train", "valid", "test")

SplitCodes = NDArray[np.uint8]


def cut_points(rows: int, fractions: tuple[float, float, float]) -> tuple[int, int]:
    """Where train and valid end: the cumulative fractions, rounded down."""
    train, valid, _ = fractions
    return int(train * rows), int(round(train + valid, 12) * rows)


def random_split(rows: int, seed: int, fractions: tuple[float, float, float]) -> SplitCodes:
    """`default_rng(seed).permutation(rows)`: the first train, the next valid, the last test."""
    numbers = np.arange(rows, dtype=np.uint32)  # half the memory of permutation(rows), same order
    order = np.random.default_rng(seed).permutation(numbers)
    train_end, valid_end = cut_points(rows, fractions)
    codes = np.zeros(rows, np.uint8)
    codes[order[train_end:valid_end]] = 1
    codes[order[valid_end:]] = 2
    return codes


def stratified_folds(labels: NDArray[np.int8], folds: int, seed: int) -> NDArray[np.uint8]:
    """The test fold of each row, equal to scikit-learn 0.19.1's `StratifiedKFold(shuffle=True)`.

    The rows of each class are shuffled by a generator of their own, `RandomState(seed)` for every
    class, and cut into `folds` runs of nearly equal length.
    """
    return _folds_by_class(labels, folds, lambda: np.random.RandomState(seed))


def stratified_folds_0_20(labels: NDArray[np.int8], folds: int, seed: int) -> NDArray[np.uint8]:
    """The test fold of each row, equal to that of scikit-learn 0.20 and 0.21.

    One `RandomState(seed)` shuffles all classes, the smaller label first.
    """
    generator = np.random.RandomState(seed)
    return _folds_by_class(labels, folds, lambda: generator)


def _folds_by_class(
    labels: NDArray[np.int8], folds: int, generator: Callable[[], np.random.RandomState]
) -> NDArray[np.uint8]:
    """`generator` gives the one that shuffles the next class."""
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
    """Fold 0 test, fold 1 valid, the rest train: the rule of Criteo_x4 and Avazu_x4."""
    split_of_fold = np.zeros(256, np.uint8)
    split_of_fold[:2] = 2, 1
    return split_of_fold[fold_of_row]


def time_split(
    times: NDArray[np.float64],
    boundaries: tuple[float, float] | None,
    fractions: tuple[float, float, float],
) -> SplitCodes:
    """Before the first boundary train, before the second valid, from there on test.

    Without boundaries the fractions choose them, so that rows of equal time stay together.
    """
    if boundaries is None:
        ordered = np.sort(times)
        train_end, valid_end = cut_points(len(times), fractions)
        last = len(times) - 1
        boundaries = float(ordered[min(train_end, last)]), float(ordered[min(valid_end, last)])
    return np.searchsorted(np.array(boundaries), times, side="right").astype(np.uint8)


def position_split(rows: int, fractions: tuple[float, float, float]) -> SplitCodes:
    """The first rows train, the next valid, the last test: for files that are in time order."""
    return np.searchsorted(cut_points(rows, fractions), np.arange(rows), side="right").astype(
        np.uint8
    )


def group_split(
    hashes: NDArray[np.uint64], seed: int, fractions: tuple[float, float, float]
) -> SplitCodes:
    """By the hash of the group and the seed, so that all rows of a group fall into one split."""
    salted = finalise(hashes + finalise(np.full(1, seed, np.uint64)))
    edges = np.array([fractions[0], round(fractions[0] + fractions[1], 12)])
    return np.searchsorted(edges, salted / 2.0**64, side="right").astype(np.uint8)
