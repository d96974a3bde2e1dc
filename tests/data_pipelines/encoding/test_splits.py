"""Splits that are reproducible with other software."""

import gzip
import hashlib

import numpy as np
import pytest

from data_pipelines.encoding.splits import (
    cut_points,
    group_split,
    position_split,
    random_split,
    split_of_folds,
    stratified_folds,
    stratified_folds_0_20,
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
def test_binary_fractions_do_not_change_the_cuts(rows):
    assert cut_points(rows, FRACTIONS) == (int(0.8 * rows), int(0.9 * rows))


# Golden folds: the classes KFold and StratifiedKFold of sklearn/model_selection/_split.py, taken
# from the wheels of scikit-learn 0.19.1 (cp36 manylinux1; sha256 of that file 5b60ca7a…) and 0.20.4
# and run with numpy's own RandomState; only `np.int` was replaced by int.
LABELS = np.array([int(i * 7 % 5 == 0 or i % 11 == 3) for i in range(47)], np.int8)
FEW_LABELS = np.array([1] * 4 + [0] * 30, np.int8)
FOLDS_0_19_1 = (
    *(0, 4, 1, 2, 1, 7, 1, 2, 3, 8, 1, 3, 2, 9, 4, 5, 5, 7, 1, 4, 8, 0, 6, 2, 5, 3, 3, 3, 8, 9, 2),
    *(6, 7, 0, 8, 6, 9, 2, 6, 9, 1, 5, 0, 7, 4, 0, 0),
)
THREE_FOLDS_0_19_1 = (
    *(0, 1, 0, 1, 0, 0, 2, 2, 0, 1, 2, 2, 2, 0, 2, 0, 1, 0, 1, 0, 2, 2, 1, 1, 0, 1, 0, 2, 0, 0, 0),
    *(2, 2, 1, 2, 2, 0, 1, 1, 2, 1, 1, 0, 0, 2, 1, 1),
)
FEW_0_19_1 = (
    *(0, 7, 8, 1, 5, 1, 9, 0, 1, 4, 9, 3, 1, 8, 6, 7, 0, 4, 3, 7, 3, 5, 5, 4, 8, 8, 6, 6, 2, 2),
    *(9, 0, 7, 2),
)
FOLDS_0_20 = (
    *(0, 4, 1, 5, 1, 3, 1, 2, 3, 8, 1, 3, 2, 9, 0, 8, 5, 7, 1, 4, 6, 0, 6, 2, 5, 2, 3, 3, 8, 9, 9),
    *(6, 7, 0, 8, 2, 4, 2, 6, 9, 7, 5, 0, 7, 4, 1, 0),
)
FEW_0_20 = (
    *(8, 3, 9, 2, 5, 1, 9, 0, 1, 4, 9, 3, 1, 8, 6, 7, 0, 4, 3, 7, 3, 5, 5, 4, 8, 8, 6, 6, 2, 2),
    *(9, 0, 7, 2),
)


def test_folds_equal_those_of_scikit_learn_0_19_1():
    assert tuple(stratified_folds(LABELS, 10, 2018)) == FOLDS_0_19_1
    assert tuple(stratified_folds(LABELS, 3, 7)) == THREE_FOLDS_0_19_1


def test_folds_of_a_class_with_fewer_rows_than_folds_equal_those_of_scikit_learn_0_19_1():
    assert tuple(stratified_folds(FEW_LABELS, 10, 2018)) == FEW_0_19_1


def test_folds_of_the_second_rule_equal_those_of_scikit_learn_0_20():
    assert tuple(stratified_folds_0_20(LABELS, 10, 2018)) == FOLDS_0_20
    assert tuple(stratified_folds_0_20(FEW_LABELS, 10, 2018)) == FEW_0_20


@pytest.mark.real_data
def test_folds_of_137139_real_labels_equal_those_of_scikit_learn_0_19_1(real_data):
    """The digest is of the uint8 fold of every row, from that release's code (see above)."""
    with gzip.open(real_data / "criteo_kaggle/dac_sample_137k.tsv.gz", "rb") as file:
        labels = np.array([line[:1] == b"1" for line in file], np.int8)
    folds = stratified_folds(labels, 10, 2018)
    assert (len(labels), int(labels.sum())) == (137139, 35213)
    assert hashlib.sha256(folds.tobytes()).hexdigest() == (
        "50d69f7064465cdb2823961efdfc927d0c760f40d08bdf87673807f9ad3a3d7d"
    )


def test_fold_0_is_test_and_fold_1_is_valid():
    codes = split_of_folds(stratified_folds(LABELS, 10, 2018))
    assert codes.tolist() == [{0: 2, 1: 1}.get(fold, 0) for fold in FOLDS_0_19_1]


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
