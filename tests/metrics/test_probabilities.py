"""Log loss, normalised entropy, calibration: what depends on the probabilities' size."""

import numpy as np
import pytest
import sklearn.metrics

from recsys.metrics import (
    METRICS,
    compute_calibration,
    compute_log_loss,
    compute_normalized_entropy,
    predictions,
)

LN2 = 0.6931471805599453
LN3 = 1.0986122886681098


def test_log_loss_of_a_coin_toss_is_ln_2():
    assert compute_log_loss(np.zeros(4, np.float32), np.array([0, 1, 1, 0])) == pytest.approx(LN2)


def test_log_loss_by_hand():
    # logit ln 3 is probability 3/4: a click costs ln(4/3), none costs ln 4.
    found = compute_log_loss(np.array([LN3, LN3]), np.array([1, 0]))
    assert found == pytest.approx((np.log(4 / 3) + np.log(4)) / 2)


def test_log_loss_equals_scikit_learn(tied_predictions):
    logits, labels = tied_predictions
    probabilities = 1 / (1 + np.exp(-logits.astype(np.float64)))
    expected = sklearn.metrics.log_loss(labels, probabilities)
    assert compute_log_loss(logits, labels) == pytest.approx(expected, abs=1e-12)


def test_log_loss_of_sure_predictions_loses_no_digits():
    assert compute_log_loss(np.array([-200.0]), np.array([1])) == 200.0
    assert compute_log_loss(np.array([40.0]), np.array([1])) == pytest.approx(4.248354255291589e-18)


def test_log_loss_of_infinite_logits_is_zero_when_right_and_infinite_when_wrong():
    assert compute_log_loss(np.array([np.inf, -np.inf]), np.array([1, 0])) == 0.0
    assert compute_log_loss(np.array([np.inf]), np.array([0])) == np.inf


def test_predicting_the_base_rate_has_normalized_entropy_1():
    logits = np.full(8, np.log(0.25 / 0.75))
    labels = np.array([1, 1, 0, 0, 0, 0, 0, 0])
    assert compute_normalized_entropy(logits, labels) == pytest.approx(1.0)


def test_normalized_entropy_by_hand():
    # each row costs ln(4/3); the entropy of a rate of 1/2 is ln 2
    logits, labels = np.array([LN3, LN3, -LN3, -LN3]), np.array([1, 1, 0, 0])
    assert compute_normalized_entropy(logits, labels) == pytest.approx(np.log(4 / 3) / LN2)


def test_calibration_by_hand():
    # probabilities 3/4 and 1/4 against one click in two rows: 1; with two clicks: one half
    assert compute_calibration(np.array([LN3, -LN3]), np.array([1, 0])) == pytest.approx(1.0)
    assert compute_calibration(np.array([LN3, -LN3]), np.array([1, 1])) == pytest.approx(0.5)


def test_the_chunks_of_a_long_array_add_up(monkeypatch, tied_predictions):
    expected = [metric.value(*tied_predictions) for metric in METRICS.values()]
    monkeypatch.setattr(predictions, "CHUNK_ROWS", 301)
    found = [metric.value(*tied_predictions) for metric in METRICS.values()]
    assert found == pytest.approx(expected)


def test_what_needs_both_classes_is_none_for_one():
    logits = np.zeros(3, np.float32)
    assert compute_normalized_entropy(logits, np.zeros(3)) is None
    assert compute_normalized_entropy(logits, np.ones(3)) is None
    assert compute_calibration(logits, np.zeros(3)) is None
    assert compute_calibration(logits, np.ones(3)) == 0.5
