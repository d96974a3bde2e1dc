"""Splits that others must be able to rebuild."""

import numpy as np
import pytest

from data_pipelines.splits import (
    cut_points,
    group_split,
    position_split,
    random_split,
    stratified_folds,
    stratified_split,
    time_split,
)

FRACTIONS = (0.8, 0.1, 0.1)


def test_random_is_numpys_permutation_cut_at_the_cumulative_fractions():
    order = np.random.default_rng(1).permutation(137)
    codes = random_split(137, 1, FRACTIONS)
    assert (codes[order[:109]] == 0).all()
    assert (codes[order[109:123]] == 1).all()
    assert (codes[order[123:]] == 2).all()


@pytest.mark.parametrize("rows", [10, 137139, 45_840_617])
def test_the_cuts_do_not_suffer_from_binary_fractions(rows):
    assert cut_points(rows, FRACTIONS) == (int(0.8 * rows), int(0.9 * rows))


# Made once with the code of scikit-learn's StratifiedKFold as it was before release 0.22.
LABELS = np.array([int(i * 7 % 5 == 0 or i % 11 == 3) for i in range(47)], np.int8)
FOLDS = (
    *(0, 4, 1, 5, 1, 3, 1, 2, 3, 8, 1, 3, 2, 9, 0, 8, 5, 7, 1, 4, 6, 0, 6, 2, 5, 2, 3, 3, 8, 9, 9),
    *(6, 7, 0, 8, 2, 4, 2, 6, 9, 7, 5, 0, 7, 4, 1, 0),
)
FEW = (
    *(8, 3, 9, 2, 5, 1, 9, 0, 1, 4, 9, 3, 1, 8, 6, 7, 0, 4, 3, 7, 3, 5, 5, 4, 8, 8, 6, 6, 2, 2),
    *(9, 0, 7, 2),
)


def test_folds_are_those_of_the_published_benchmark():
    assert tuple(stratified_folds(LABELS, 10, 2018)) == FOLDS


def test_folds_of_a_class_with_fewer_rows_than_folds():
    assert tuple(stratified_folds(np.array([1] * 4 + [0] * 30, np.int8), 10, 2018)) == FEW


def test_fold_0_is_test_and_fold_1_is_valid():
    codes = stratified_split(LABELS, 10, 2018)
    assert codes.tolist() == [{0: 2, 1: 1}.get(fold, 0) for fold in FOLDS]


def test_by_time_keeps_rows_of_equal_time_together():
    times = np.array([5.0, 1, 1, 2, 2, 2, 3, 4, 4, 4])
    assert time_split(times, None, (0.5, 0.3, 0.2)).tolist() == [2, 0, 0, 0, 0, 0, 1, 2, 2, 2]


def test_by_time_with_boundaries():
    times = np.array([14102100.0, 14102205.0, 14102300.0, 14102100.0])
    assert time_split(times, (14102200.0, 14102300.0), FRACTIONS).tolist() == [0, 1, 2, 0]


def test_by_position_cuts_the_rows_in_order():
    assert position_split(10, (0.5, 0.3, 0.2)).tolist() == [0] * 5 + [1] * 3 + [2] * 2


def test_by_group_keeps_groups_whole_and_shares_near_the_fractions():
    hashes = np.repeat(np.random.default_rng(0).integers(0, 2**64, 5000, dtype=np.uint64), 2)
    codes = group_split(hashes, 1, FRACTIONS)
    assert (codes[::2] == codes[1::2]).all()
    np.testing.assert_allclose(np.bincount(codes) / 10_000, FRACTIONS, atol=0.02)
    assert (group_split(hashes, 2, FRACTIONS) != codes).any()
