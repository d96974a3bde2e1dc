import numpy as np
import pytest
from scipy.stats import binomtest

from recsys.metrics import compute_ece, compute_reliability
from recsys.metrics.reliability import wilson_interval


def logit(probability):
    probability = np.asarray(probability, np.float64)
    return np.log(probability / (1 - probability))


def test_two_bins_by_hand():
    logits = logit([0.1, 0.3, 0.6, 0.8])
    curve = compute_reliability(logits, np.array([0, 1, 1, 1]), num_bins=2)
    assert curve.rows.tolist() == [2, 2]
    assert curve.mean_probability == pytest.approx([0.2, 0.7])
    assert curve.click_rate == pytest.approx([0.5, 1.0])
    assert compute_ece(logits, np.array([0, 1, 1, 1]), num_bins=2) == pytest.approx(0.3)


def test_bins_without_ties_have_equal_mass():
    logits = np.random.default_rng(0).permutation(103).astype(np.float32) / 50
    rows = compute_reliability(logits, np.zeros(103), num_bins=10).rows
    assert rows.sum() == 103
    assert set(rows.tolist()) == {10, 11}


def test_equal_logits_share_a_bin_whatever_the_order_of_the_rows(tied_predictions):
    logits, labels = tied_predictions
    order = np.random.default_rng(3).permutation(len(logits))
    curve = compute_reliability(logits, labels)
    shuffled = compute_reliability(logits[order], labels[order])
    assert np.array_equal(curve.rows, shuffled.rows)
    assert np.array_equal(curve.click_rate, shuffled.click_rate)


def test_equals_a_plain_loop_over_the_sorted_rows(tied_predictions):
    logits, labels = tied_predictions
    logits = logits + np.arange(len(logits), dtype=np.float32) / 1e5  # no ties left
    order = np.argsort(logits)
    gap = 0.0
    for rows in np.array_split(order, 20):
        gap += abs((1 / (1 + np.exp(-logits[rows]))).sum() - labels[rows].sum())
    assert compute_ece(logits, labels, num_bins=20) == pytest.approx(gap / len(logits), rel=1e-4)


def test_constant_calibrated_predictions_have_one_bin_and_no_error():
    curve = compute_reliability(np.full(8, logit(0.25)), np.array([1, 1, 0, 0, 0, 0, 0, 0]))
    assert curve.rows.tolist() == [8]
    assert compute_ece(np.full(8, logit(0.25)), np.array([1, 1, 0, 0, 0, 0, 0, 0])) < 1e-15


def test_fewer_rows_than_bins_is_one_row_per_bin():
    assert (
        compute_reliability(np.array([0.3, -1.0, 2.0]), np.array([1, 0, 1])).rows.tolist()
        == [1] * 3
    )


@pytest.mark.parametrize(("positives", "rows"), [(0, 10), (3, 10), (10, 10), (250, 1000)])
def test_wilson_interval_equals_scipy(positives, rows):
    expected = binomtest(positives, rows).proportion_ci(method="wilson")
    assert wilson_interval(positives, rows) == pytest.approx(
        (expected.low, expected.high), abs=1e-12
    )
