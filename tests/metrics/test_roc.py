import numpy as np
import pytest
import sklearn.metrics

from recsys.metrics import compute_auc, compute_roc


def test_four_rows_by_hand():
    rates = compute_roc(np.array([4.0, 3.0, 2.0, 1.0]), np.array([1, 0, 1, 0]))
    steps = list(zip(*(rate.tolist() for rate in rates), strict=True))
    assert steps == [(0, 0), (0, 0.5), (0.5, 0.5), (0.5, 1), (1, 1), (1, 1)]


def test_points_lie_on_the_exact_curve(tied_predictions):
    logits, labels = tied_predictions
    false_rates, true_rates = compute_roc(logits, labels)
    exact_false, exact_true, _ = sklearn.metrics.roc_curve(labels, logits, drop_intermediate=False)
    exact = set(zip(exact_false.round(12).tolist(), exact_true.round(12).tolist(), strict=True))
    found = zip(false_rates.round(12).tolist(), true_rates.round(12).tolist(), strict=True)
    assert set(found) <= exact


def test_a_thinned_curve_keeps_the_area():
    rng = np.random.default_rng(0)
    labels = rng.random(100_000) < 0.02
    logits = (rng.normal(size=100_000) + 2 * labels).astype(np.float32)
    false_rates, true_rates = compute_roc(logits, labels)
    assert len(false_rates) <= 202
    area = np.trapezoid(true_rates, false_rates)
    assert area == pytest.approx(compute_auc(logits, labels), abs=5e-4)


def test_constant_predictions_are_the_diagonal():
    false_rates, true_rates = compute_roc(np.zeros(4), np.array([0, 1, 0, 1]))
    assert np.array_equal(false_rates, true_rates)
    assert (false_rates[0], false_rates[-1]) == (0, 1)


def test_one_class_has_no_curve():
    assert compute_roc(np.zeros(2), np.ones(2)) is None
