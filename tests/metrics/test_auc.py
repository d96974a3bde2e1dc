import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from recsys.errors import RecsysError
from recsys.metrics import compute_auc, predictions


def pairwise_auc(logits, labels):
    """The definition, O(n²): the share of (positive, negative) pairs in the right order."""
    positives, negatives = logits[labels == 1], logits[labels == 0]
    greater = positives[:, None] > negatives[None, :]
    equal = positives[:, None] == negatives[None, :]
    return (greater.sum() + 0.5 * equal.sum()) / greater.size


def test_five_rows_by_hand():
    # pairs: 3>1 yes, 3>2 yes, 2>1 yes, 2 = 2 half, 0>1 no, 0>2 no: 3.5 of 6
    logits = np.array([1, 2, 3, 2, 0], np.float32)
    assert compute_auc(logits, np.array([0, 0, 1, 1, 1])) == 3.5 / 6


def test_equals_scikit_learn_with_ties(tied_predictions):
    logits, labels = tied_predictions
    assert compute_auc(logits, labels) == pytest.approx(roc_auc_score(labels, logits), abs=1e-12)


def test_equals_the_definition_when_positives_are_the_larger_class(tied_predictions):
    logits, labels = tied_predictions
    assert compute_auc(-logits, 1 - labels) == pairwise_auc(-logits, 1 - labels)
    assert compute_auc(logits, 1 - labels) == pytest.approx(1 - compute_auc(logits, labels))


def test_the_chunks_of_a_long_array_add_up(monkeypatch, tied_predictions):
    expected = compute_auc(*tied_predictions)
    monkeypatch.setattr(predictions, "CHUNK_ROWS", 7)
    assert compute_auc(*tied_predictions) == expected


def test_negative_zero_equals_zero():
    assert compute_auc(np.array([-0.0, 0.0], np.float32), np.array([0, 1])) == 0.5
    assert compute_auc(np.array([-0.0, 0.0], np.float32), np.array([1, 0])) == 0.5


def test_infinities_and_the_smallest_numbers_are_ordered():
    logits = np.array([-np.inf, -1e-45, 1e-45, 3.4e38, np.inf], np.float32)
    assert compute_auc(logits, np.array([0, 0, 1, 1, 1])) == 1.0


def test_float64_logits_keep_their_last_digits():
    assert compute_auc(np.array([1.0, 1.0 + 1e-15]), np.array([0, 1])) == 1.0


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(width=32, allow_nan=False), st.booleans()), min_size=2, max_size=40
    )
)
def test_any_float32_gives_the_definition(rows):
    logits = np.array([logit for logit, _ in rows], np.float32)
    labels = np.array([label for _, label in rows])
    if labels.all() or not labels.any():
        assert compute_auc(logits, labels) is None
    else:
        assert compute_auc(logits, labels) == pytest.approx(pairwise_auc(logits, labels), abs=1e-15)


def test_one_class_has_no_auc():
    assert compute_auc(np.array([0.1, 0.2]), np.array([1, 1])) is None
    assert compute_auc(np.array([0.1, 0.2]), np.array([0, 0])) is None


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        ([], [], "no predictions"),
        ([0.0, np.nan, np.nan], [0, 1, 1], "row 1 is the first"),
        ([0.0, 1.0], [0, 2], "neither 0 nor 1"),
        ([0.0, 1.0], [0.0, np.nan], "neither 0 nor 1"),
        ([0.0, 1.0], [0], "different shapes"),
        ([[0.0, 1.0]], [[0, 1]], "different shapes"),
    ],
)
def test_wrong_predictions_are_refused(logits, labels, message):
    with pytest.raises(RecsysError, match=message):
        compute_auc(np.array(logits), np.array(labels))
