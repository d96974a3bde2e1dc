import math

import numpy as np
import pytest

from recsys.errors import RecsysError
from recsys.metrics import Behaviors, Relevance, compute_information
from tests.metrics.histories import (
    counts_by_loop,
    information_by_loop,
    make_histories,
    relevance_of,
)


def test_a_behavior_that_decides_the_label_tells_all_of_its_entropy():
    # 4 positives with it and 4 negatives without it: one bit, but for the two zeros taken as 1e-5
    assert compute_information([4], [0], [4], [4]) == pytest.approx([1.0], abs=1e-4)
    assert compute_information([0], [4], [4], [4]) == pytest.approx([1.0], abs=1e-4)


def test_an_independent_behavior_tells_nothing():
    assert compute_information([2], [6], [4], [12]) == pytest.approx([0.0], abs=1e-12)


def test_information_by_hand():
    # 8 rows: with it 3 positives, 1 negative; without it 1 and 3
    expected = 2 * (3 / 8 * math.log2(3 / 8 / (1 / 4)) + 1 / 8 * math.log2(1 / 8 / (1 / 4)))
    assert compute_information([3], [1], [4], [4]) == pytest.approx([expected])


def test_what_was_never_seen_tells_next_to_nothing():
    assert 0 <= compute_information([0], [0], [400], [800])[0] < 1e-6


def test_counts_of_a_few_rows_by_hand():
    # rows (target; history, oldest first; label): (1; 2 3; 1), (1; 3; 0), (1; ; 1), (2; 3 3; 1)
    behaviors = Behaviors(
        targets=np.array([1, 1, 1, 2]),
        ids=np.array([2, 3, 3, 3, 3]),
        lengths=np.array([2, 1, 0, 2]),
        labels=np.array([True, False, True, True]),
    )
    relevance = Relevance(num_ids=4, max_rank=2)
    cells = [(1, 3, 1), (1, 2, 2), (1, 3, 2), (2, 3, 1)]
    targets, ids, ranks = np.array(cells).T
    relevance.want(targets, ids, ranks)
    relevance.add(behaviors)
    evidence = relevance.evidence(targets, ids, ranks)
    assert evidence.positives.tolist() == [1, 1, 0, 1]
    assert evidence.negatives.tolist() == [1, 0, 0, 0]
    assert evidence.support.tolist() == [1, 0, 0, 0]
    assert relevance.target_rows().tolist() == [0, 3, 1, 0]


@pytest.mark.parametrize("chunks", [1, 7])
def test_chunks_of_random_histories_equal_a_loop(chunks):
    behaviors = make_histories(rows=700, num_ids=5, max_length=6, seed=2)
    relevance = relevance_of(behaviors, num_ids=5, chunks=chunks)
    targets = behaviors.targets[behaviors.rows]
    evidence = relevance.evidence(targets, behaviors.ids, behaviors.ranks)
    expected = information_by_loop(behaviors)
    assert evidence.information == pytest.approx(
        [expected[cell] for cell in zip(targets, behaviors.ids, behaviors.ranks, strict=True)],
        abs=1e-12,
    )


def test_behaviors_beyond_the_last_rank_are_passed_over():
    behaviors = make_histories(rows=50, num_ids=3, max_length=5, seed=4)
    relevance = Relevance(num_ids=3, max_rank=2)
    cells = [grid.ravel() for grid in np.meshgrid([0, 1, 2], [0, 1, 2], [1, 2])]
    relevance.want(*cells)
    relevance.add(behaviors)
    evidence = relevance.evidence(*cells)
    expected, _ = counts_by_loop(behaviors)
    for number, cell in enumerate(zip(*cells, strict=True)):
        assert evidence.positives[number] == expected[cell, True]
        assert evidence.negatives[number] == expected[cell, False]


def test_a_cell_that_was_not_counted_is_refused():
    relevance = Relevance(num_ids=4, max_rank=2)
    relevance.want(np.array([1]), np.array([2]), np.array([1]))
    with pytest.raises(KeyError):
        relevance.evidence(np.array([1]), np.array([3]), np.array([1]))


def test_arrays_that_do_not_belong_together_are_refused():
    with pytest.raises(RecsysError, match="2 rows and 3 behaviors"):
        Behaviors(np.array([1, 2]), np.array([1]), np.array([1, 2]), np.array([True, False]))


def test_ranks_count_back_from_the_most_recent():
    behaviors = Behaviors(np.zeros(3, int), np.arange(4), np.array([3, 0, 1]), np.zeros(3, bool))
    assert behaviors.ranks.tolist() == [3, 2, 1, 1]
    assert behaviors.rows.tolist() == [0, 0, 0, 2]
