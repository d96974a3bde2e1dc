import itertools
import math

import numpy as np
import pytest

from recsys.errors import RecsysError
from recsys.metrics import Behaviors, SupportRule, compute_retrieval_quality
from tests.metrics.histories import make_histories, ndcg_by_loop, relevance_of

EVERY_ROW = SupportRule(min_target_rows=0, min_count=0)


def rule(*limits):
    return SupportRule(**dict(zip(SupportRule.model_fields, limits, strict=True)))


@pytest.fixture
def behaviors():
    return make_histories(rows=900, num_ids=4, max_length=8, seed=11)


@pytest.fixture
def relevance(behaviors):
    return relevance_of(behaviors, num_ids=4)


def information_of(relevance, behaviors):
    targets = behaviors.targets[behaviors.rows]
    return relevance.evidence(targets, behaviors.ids, behaviors.ranks).information


@pytest.mark.parametrize("k", [1, 3, 20])
def test_the_most_relevant_in_their_order_score_1(behaviors, relevance, k):
    best = behaviors.top_ranks(information_of(relevance, behaviors), k)
    found = compute_retrieval_quality(relevance, behaviors, best, EVERY_ROW)
    assert found.ndcg == pytest.approx(1.0, abs=1e-12)
    assert found.rows == found.rows_used == np.count_nonzero(behaviors.lengths)


def test_one_row_by_hand(relevance):
    # a history 3 0 2 (oldest first) before target 1; retrieved: rank 3, then rank 1
    row = Behaviors(np.array([1]), np.array([3, 0, 2]), np.array([3]), np.array([True]))
    oldest, middle, newest = information_of(relevance, row)
    second = math.log2(3)
    ideal = sorted([oldest, middle, newest], reverse=True)
    found = compute_retrieval_quality(relevance, row, np.array([[3, 1]]), EVERY_ROW)
    best = ideal[0] + ideal[1] / second
    assert found.ndcg == pytest.approx((oldest + newest / second) / best)
    assert found.most_recent == pytest.approx((newest + middle / second) / best)
    mean = (oldest + middle + newest) / 3
    assert found.random == pytest.approx((mean + mean / second) / best)


def test_a_blind_choice_is_the_mean_over_all_choices(relevance):
    row = Behaviors(np.array([1]), np.array([3, 0, 2, 2]), np.array([4]), np.array([True]))
    found = [
        compute_retrieval_quality(relevance, row, np.array([choice]), EVERY_ROW).ndcg
        for choice in itertools.permutations([1, 2, 3, 4], 2)
    ]
    assert compute_retrieval_quality(
        relevance, row, np.array([[1, 2]]), EVERY_ROW
    ).random == pytest.approx(np.mean(found))


@pytest.mark.parametrize(
    "rule",
    [EVERY_ROW, rule(230, 0, 0.0), rule(0, 5, 0.1), rule(215, 6, 0.5)],
)
def test_random_choices_equal_a_loop(behaviors, relevance, rule):
    retrieved = behaviors.top_ranks(np.random.default_rng(6).random(len(behaviors.ids)), 3)
    expected, rows = ndcg_by_loop(
        behaviors, retrieved, rule.min_target_rows, rule.min_count, rule.max_unsupported
    )
    found = compute_retrieval_quality(relevance, behaviors, retrieved, rule)
    assert 0 < rows <= len(behaviors.targets)
    assert found.ndcg == pytest.approx(expected, abs=1e-12)
    assert found.rows_used == rows
    assert found.rows == found.rows_used + found.rare_target_rows + found.unsupported_rows


def test_the_published_rule_leaves_out_what_has_too_few_rows(behaviors, relevance):
    retrieved = behaviors.top_ranks(np.zeros(len(behaviors.ids)), 20)
    found = compute_retrieval_quality(relevance, behaviors, retrieved)
    assert (found.ndcg, found.most_recent, found.random) == (None, None, None)
    assert (found.rows_used, found.rare_target_rows) == (0, found.rows)
    assert SupportRule() == SupportRule(min_target_rows=700, min_count=50, max_unsupported=20 / 200)


def test_equal_scores_retrieve_the_more_recent_and_short_histories_end_in_0():
    behaviors = Behaviors(
        np.zeros(3, int), np.zeros(5, int), np.array([3, 0, 2]), np.zeros(3, bool)
    )
    ranks = behaviors.top_ranks(np.array([5.0, 1.0, 1.0, 2.0, 3.0]), 3)
    assert ranks.tolist() == [[3, 1, 2], [0, 0, 0], [1, 2, 0]]


@pytest.mark.parametrize("wrong", [[[4]], [[-1]], [[1], [1]], [1]])
def test_ranks_outside_the_history_are_refused(relevance, wrong):
    row = Behaviors(np.array([1]), np.array([3, 0, 2]), np.array([3]), np.array([True]))
    with pytest.raises(RecsysError, match="do not match the histories"):
        compute_retrieval_quality(relevance, row, np.array(wrong), EVERY_ROW)
