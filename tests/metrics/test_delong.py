import numpy as np
import pytest
from scipy.stats import norm

from recsys.errors import RecsysError
from recsys.metrics import compare_aucs, compute_auc, compute_auc_interval
from recsys.metrics.intervals.delong import mean_variance
from recsys.metrics.intervals.small_samples import few_rows_interval, hanley_mcneil_variance


def pairwise_components(logits, labels):
    """DeLong's V10 (one per positive) and V01 (one per negative) from all pairs, O(n²)."""
    pairs = np.sign(logits[labels == 1][:, None] - logits[labels == 0][None, :]) / 2 + 0.5
    return pairs.mean(axis=1), pairs.mean(axis=0)


def pairwise_covariance(logits, labels):
    """The covariance matrix of the AUCs of `logits` (models, n), as in the paper's equation 5."""
    components = [pairwise_components(row, labels) for row in logits]
    of_positives = np.atleast_2d(np.cov([v10 for v10, _ in components]))
    of_negatives = np.atleast_2d(np.cov([v01 for _, v01 in components]))
    return of_positives / (labels == 1).sum() + of_negatives / (labels == 0).sum()


def test_four_rows_by_hand():
    # V10 of the positives 3 and 2: 1 and 1/2 (of the negatives lie below); V01 likewise 1 and 1/2.
    # Each has variance 1/8, each mean 1/16: the AUC 0.75 has variance 1/8.
    assert compute_auc_interval(np.array([3, 2, 1, 2.5]), np.array([1, 1, 0, 0])).auc == 0.75
    positives, negatives = np.array([2.0, 3.0]), np.array([1.0, 2.5])
    variances = mean_variance(positives, negatives, 0.75), mean_variance(negatives, positives, 0.25)
    assert variances == (1 / 16, 1 / 16)


def test_interval_equals_the_pairwise_formula(tied_predictions):
    logits, labels = tied_predictions
    error = np.sqrt(pairwise_covariance(logits[None], labels)[0, 0])
    found = compute_auc_interval(logits, labels)
    assert found.auc == compute_auc(logits, labels)
    assert found.ci95 == pytest.approx(
        (found.auc - 1.95996398 * error, found.auc + 1.95996398 * error)
    )


def test_interval_covers_the_true_auc_as_often_as_it_says():
    # Two normals one standard deviation apart: AUC = Phi(1/sqrt 2) = 0.7602.
    rng, inside = np.random.default_rng(0), 0
    labels = np.arange(400) < 100
    for _ in range(400):
        low, high = compute_auc_interval(rng.normal(size=400) + labels, labels).ci95
        inside += low <= 0.76025 <= high
    assert 0.92 <= inside / 400 <= 0.98  # 0.95 ± 3 standard errors of 400 tries


@pytest.mark.parametrize("spread", [1.0, 2.0])
@pytest.mark.parametrize("auc", [0.7, 0.9, 0.99])
@pytest.mark.parametrize("positives", [2, 5, 10, 30])
def test_interval_of_few_positives_covers_the_true_auc(positives, auc, spread):
    rng, inside = np.random.default_rng(0), 0
    labels = np.arange(1000) < positives
    distance = norm.ppf(auc) * np.sqrt(1 + spread**2)
    for _ in range(200):
        scores = rng.normal(size=1000)
        scores[labels] = distance + spread * scores[labels]
        low, high = compute_auc_interval(scores, labels).ci95
        inside += low <= auc <= high
    assert inside >= 182  # 0.95 less 2.6 standard errors of 200 tries; DeLong's: 30 to 186


@pytest.mark.parametrize(("positives", "lowest"), [(2, 0.585), (10, 0.850), (100, 0.981)])
def test_an_auc_of_1_has_an_interval_that_more_positives_make_narrower(positives, lowest):
    labels = np.arange(1000) < positives
    found = compute_auc_interval(labels.astype(float), labels)
    assert found.auc == 1.0
    assert found.ci95 == pytest.approx((lowest, 1.0), abs=1e-3)
    low, high = compute_auc_interval(-labels.astype(float), labels).ci95
    assert low == 0.0
    assert high < 0.5


def test_few_rows_limits_are_where_the_hanley_mcneil_variance_puts_the_auc_at_1_96_deviations():
    low, high = few_rows_interval(0.8, 0.0, 4, 50)
    for limit in (low, high):
        error = np.sqrt(hanley_mcneil_variance(limit, 4, 50))
        assert abs(0.8 - limit) / error == pytest.approx(1.959964)


@pytest.mark.parametrize(
    ("labels", "reason"),
    [([1, 1, 1], "only positives"), ([0, 0, 0], "only negatives"), ([1, 0, 0], "two rows")],
)
def test_too_few_rows_give_a_reason(labels, reason):
    found = compute_auc_interval(np.array([3.0, 2.0, 1.0]), np.array(labels))
    assert found.ci95 is None
    assert reason in found.reason


def test_paired_test_equals_the_pairwise_formula(tied_predictions):
    logits, labels = tied_predictions
    other = logits + np.random.default_rng(1).normal(size=len(logits)).astype(np.float32)
    covariance = pairwise_covariance(np.stack([logits, other]), labels)
    error = np.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    found = compare_aucs(logits, other, labels)
    assert found.auc_a == pytest.approx(compute_auc(logits, labels), abs=1e-14)
    assert found.auc_b == pytest.approx(compute_auc(other, labels), abs=1e-14)
    assert (found.ci95[1] - found.ci95[0]) / 2 == pytest.approx(1.95996398 * error)


def test_p_value_is_the_normal_distributions(tied_predictions):
    logits, labels = tied_predictions
    found = compare_aucs(logits, logits + np.sin(np.arange(len(logits))) / 3, labels)
    error = (found.ci95[1] - found.ci95[0]) / 2 / 1.959963984540054
    assert found.p_value == pytest.approx(2 * norm.sf(abs(found.difference) / error))


def test_the_same_model_twice_has_p_value_1(tied_predictions):
    logits, labels = tied_predictions
    found = compare_aucs(logits, 2 * logits + 1, labels)
    assert (found.difference, found.p_value) == (0.0, 1.0)


RANKED = np.arange(100.0)


@pytest.mark.parametrize(
    ("logits_b", "positives", "reason"),
    [
        (2 * RANKED, 20, "no variance"),  # both are 1
        (-RANKED, 20, "no variance"),  # one is 1, the other 0
        (np.sin(RANKED), 9, "a class has fewer than 10 rows"),
    ],
)
def test_rows_that_cannot_tell_two_models_apart_give_a_reason(logits_b, positives, reason):
    found = compare_aucs(RANKED, logits_b, np.arange(100) >= 100 - positives)
    assert (found.ci95, found.p_value) == (None, None)
    assert reason in found.reason
    assert found.difference == found.auc_b - found.auc_a


def test_two_models_cannot_be_compared_on_one_class():
    with pytest.raises(RecsysError, match="2 positives, 0 negatives"):
        compare_aucs(np.zeros(2), np.ones(2), np.array([1, 1]))
