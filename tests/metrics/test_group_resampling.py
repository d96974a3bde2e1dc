import numpy as np
import pytest

from recsys.metrics import compare_grouped_aucs, compute_grouped_auc
from recsys.metrics.intervals import group_resampling
from recsys.metrics.intervals.group_resampling import resample_ratio


def draw_one_by_one(parts, weights, draws, seed):
    """The definition: groups drawn with replacement, one draw after the other."""
    rng, ratios = np.random.default_rng(seed), []
    for _ in range(draws):
        chosen = rng.integers(0, len(parts), len(parts))
        ratios.append(parts[chosen].sum() / weights[chosen].sum())
    return np.percentile(ratios, [2.5, 97.5])


def test_two_groups_give_their_own_values_as_bounds():
    # Each draw has (first, first), (second, second) with 1/4 each: both tails hold far above 2.5 %.
    assert resample_ratio(np.array([2.0, 0.5]), np.array([2.0, 1.0])) == (0.5, 1.0)


def test_the_interval_is_that_of_drawing_groups_one_by_one():
    rng = np.random.default_rng(3)
    weights = rng.integers(1, 6, 400).astype(float)
    parts = weights * rng.integers(0, 4, 400) / 3  # many groups alike
    found = resample_ratio(parts, weights)
    expected = draw_one_by_one(parts, weights, draws=4000, seed=5)
    width = expected[1] - expected[0]
    assert found == pytest.approx(expected, abs=0.06 * width)  # 1,000 draws' own spread


def test_the_interval_is_reproducible_and_does_not_depend_on_the_memory(monkeypatch):
    rng = np.random.default_rng(3)
    weights = rng.random(50) + 0.5
    parts = weights * rng.random(50)
    found = resample_ratio(parts, weights)
    assert resample_ratio(parts, weights) == found
    assert resample_ratio(parts, weights, seed=1) != found
    monkeypatch.setattr(group_resampling, "COUNTS_AT_ONCE", 120)
    assert resample_ratio(parts, weights) == pytest.approx(found, abs=1e-15)


def test_very_many_groups_get_fewer_draws_but_never_few(monkeypatch):
    monkeypatch.setattr(group_resampling, "MAX_COUNTS", 1)
    low, high = resample_ratio(np.arange(50.0), np.ones(50))
    assert 15 < low < 24.5 < high < 34  # 24.5 ± 2 · 14.4 / √50


def test_one_group_has_no_interval():
    assert resample_ratio(np.array([1.0]), np.array([2.0])) is None


def test_a_paired_difference_by_hand():
    # user 1: AUC 1 and 0 (2 rows); user 2: AUC 1/2 and 1 (3 rows); user 3 has one class
    group_ids = np.array([1, 1, 2, 2, 2, 3])
    labels = np.array([1, 0, 1, 0, 0, 1])
    logits_a = np.array([2.0, 1.0, 5.0, 9.0, 4.0, 0.0])
    logits_b = np.array([1.0, 2.0, 7.0, 1.0, 4.0, 0.0])
    found = compare_grouped_aucs(logits_a, logits_b, labels, group_ids)
    assert found.gauc_a == pytest.approx((2 * 1 + 3 * 0.5) / 5)
    assert found.gauc_b == pytest.approx((2 * 0 + 3 * 1) / 5)
    assert found.difference == pytest.approx(-0.1)
    assert found.ci95 == pytest.approx((-1.0, 0.5))  # either user twice
    assert (found.groups, found.groups_used) == (3, 2)


def test_a_paired_interval_is_narrower_than_those_of_two_like_models():
    rng = np.random.default_rng(8)
    group_ids, labels = np.repeat(np.arange(200), 8), np.tile([1, 1, 0, 0, 0, 0, 0, 0], 200)
    logits = rng.normal(size=1600) + labels
    other = logits + 0.1 * rng.normal(size=1600)
    paired = compare_grouped_aucs(logits, other, labels, group_ids)
    alone = compute_grouped_auc(logits, labels, group_ids)
    assert paired.gauc_a == pytest.approx(alone.value, abs=1e-12)
    assert paired.ci95[0] < paired.difference < paired.ci95[1]
    assert paired.ci95[1] - paired.ci95[0] < 0.4 * (alone.ci95[1] - alone.ci95[0])


def test_the_same_model_twice_has_no_difference():
    group_ids, labels = np.repeat(np.arange(9), 2), np.tile([0, 1], 9)
    logits = np.random.default_rng(1).normal(size=18)
    found = compare_grouped_aucs(logits, 3 * logits, labels, group_ids)
    assert (found.difference, found.ci95) == (0.0, (0.0, 0.0))


def test_fewer_than_two_users_with_both_classes_cannot_be_compared():
    assert compare_grouped_aucs([1.0, 2.0], [2.0, 1.0], [0, 1], np.array([4, 4])) is None
