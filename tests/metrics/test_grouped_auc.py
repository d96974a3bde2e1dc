import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from recsys.errors import RecsysError
from recsys.metrics import compute_auc, compute_grouped_auc


def loop_over_groups(logits, labels, group_ids):
    total, used = 0.0, 0
    for group in np.unique(group_ids):
        rows = group_ids == group
        if 0 < labels[rows].sum() < rows.sum():
            total += rows.sum() * roc_auc_score(labels[rows], logits[rows])
            used += rows.sum()
    return total / used, 1 - used / len(labels)


def test_three_groups_by_hand():
    # group 5, 2 rows: AUC 1; group 9, 3 rows: one pair right and one tie, AUC 3/4;
    # group 7: only negatives, so its one row is dropped
    group_ids = np.array([5, 9, 5, 9, 7, 9])
    logits = np.array([-1.0, 0.4, 2.0, 0.4, 1.0, 0.1], np.float32)
    labels = np.array([0, 1, 1, 0, 0, 0])
    found = compute_grouped_auc(logits, labels, group_ids)
    assert found.value == pytest.approx((2 * 1.0 + 3 * 0.75) / 5)
    assert (found.groups, found.groups_used) == (3, 2)
    assert found.dropped_share == pytest.approx(1 / 6)


@pytest.mark.parametrize("spread", [1, 10**12, -(10**15)], ids=["near", "far", "negative"])
def test_equals_scikit_learn_group_by_group(tied_predictions, spread):
    logits, labels = tied_predictions
    group_ids = np.random.default_rng(2).integers(0, 300, len(logits)) * spread
    value, dropped = loop_over_groups(logits, labels, group_ids)
    found = compute_grouped_auc(logits, labels, group_ids)
    assert found.value == pytest.approx(value, abs=1e-12)
    assert found.dropped_share == pytest.approx(dropped)


def test_one_group_is_the_plain_auc(tied_predictions):
    logits, labels = tied_predictions
    found = compute_grouped_auc(logits, labels, np.full(len(logits), -3, np.int8))
    assert found.value == compute_auc(logits, labels)
    assert found.ci95 is None


def test_small_integer_types_do_not_overflow():
    group_ids = np.array([-128, 127, -128, 127], np.int8)
    found = compute_grouped_auc(np.array([0.0, 1.0, 1.0, 0.0]), np.array([0, 0, 1, 1]), group_ids)
    assert (found.value, found.groups) == (0.5, 2)


def test_negative_zero_ties_with_zero():
    found = compute_grouped_auc(np.array([-0.0, 0.0]), np.array([0, 1]), np.array([1, 1]))
    assert found.value == 0.5


def test_interval_covers_the_true_value_as_often_as_it_says():
    rng, inside = np.random.default_rng(5), 0
    group_ids = np.repeat(np.arange(100), 8)
    labels = np.tile([1, 1, 0, 0, 0, 0, 0, 0], 100)
    for _ in range(400):
        low, high = compute_grouped_auc(rng.normal(size=800) + labels, labels, group_ids).ci95
        inside += low <= 0.76025 <= high
    assert 0.92 <= inside / 400 <= 0.98


def test_no_group_with_both_classes_has_no_value():
    found = compute_grouped_auc(np.array([1.0, 2.0]), np.array([0, 1]), np.array([1, 2]))
    assert (found.value, found.ci95, found.dropped_share) == (None, None, 1.0)


@pytest.mark.parametrize("group_ids", [np.array([1]), np.array([0.5, 1.5])])
def test_wrong_group_ids_are_refused(group_ids):
    with pytest.raises(RecsysError, match="group ids"):
        compute_grouped_auc(np.array([1.0, 2.0]), np.array([0, 1]), group_ids)


def test_a_perfectly_ordered_pair_has_auc_1_and_a_tie_one_half():
    labels, group_ids = np.array([0, 1]), np.array([3, 3])
    assert compute_grouped_auc(np.array([0.1, 0.2]), labels, group_ids).value == 1.0
    assert compute_grouped_auc(np.array([0.2, 0.1]), labels, group_ids).value == 0.0
    assert compute_grouped_auc(np.array([0.1, 0.1]), labels, group_ids).value == 0.5


def test_five_positives_above_five_negatives_have_auc_1():
    found = compute_grouped_auc(np.arange(10.0), np.arange(10) >= 5, np.zeros(10, int))
    assert found.value == 1.0


def test_groups_that_are_all_ordered_right_have_no_interval():
    group_ids, labels = np.repeat(np.arange(5), 2), np.tile([0, 1], 5)
    found = compute_grouped_auc(labels.astype(float), labels, group_ids)
    assert (found.value, found.ci95) == (1.0, None)
