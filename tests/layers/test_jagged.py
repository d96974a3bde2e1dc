"""Sums, softmax and top-k of jagged rows against loops over rows."""

import pytest
import torch

from recsys.layers.jagged import (
    expand,
    from_block,
    pool,
    ranked_top_k,
    softmax,
    to_block,
    top_k,
)
from tests.histories import random_history

NOTHING = [(), (0,), (0, 0, 0)]
each_shape = pytest.mark.parametrize(
    "lengths", [(3, 0, 5, 1, 2), (2, 2), (1,), (0, 4, 0), *NOTHING]
)


def random_scores(history, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(len(history.vectors), generator=generator)


@each_shape
def test_rows_ranks_and_places_say_where_a_behavior_is(lengths):
    history = random_history(lengths=lengths)
    rows = [row for row, length in enumerate(lengths) for _ in range(length)]
    ranks = [rank for length in lengths for rank in range(length, 0, -1)]
    assert history.rows.tolist() == rows
    assert history.ranks.tolist() == ranks
    assert history.starts.tolist() == [sum(lengths[:i]) for i in range(len(lengths))]
    places = [6 * row + rank - 1 for row, rank in zip(rows, ranks, strict=True)]
    assert history.places.tolist() == places


@each_shape
def test_pool_sums_each_row(lengths):
    history = random_history(lengths=lengths)
    weights = random_scores(history)
    rows = history.vectors.split(list(lengths)) if lengths else ()
    plain = [row.sum(0) for row in rows]
    parts = weights.split(list(lengths)) if lengths else ()
    weighted = [(own[:, None] * row).sum(0) for own, row in zip(parts, rows, strict=True)]
    empty = torch.zeros(0, 4)
    torch.testing.assert_close(
        pool(history.vectors, history), torch.stack(plain) if plain else empty
    )
    got = pool(history.vectors, history, weights)
    torch.testing.assert_close(got, torch.stack(weighted) if weighted else empty)


@each_shape
def test_gradients_of_sums_are_those_of_finite_differences(lengths):
    history = random_history(lengths=lengths, dtype=torch.float64)
    weights = random_scores(history).double().requires_grad_()

    def expanded(values):
        return expand(values, history)

    def pooled(vectors, weights):
        return pool(vectors, history, weights)

    def summed(vectors):
        return pool(vectors, history)

    assert torch.autograd.gradcheck(expanded, (history.target,))
    assert torch.autograd.gradcheck(pooled, (history.vectors, weights))
    assert torch.autograd.gradcheck(summed, (history.vectors,))


@each_shape
def test_a_block_holds_the_most_recent_first_and_gives_back_what_it_got(lengths):
    history = random_history(lengths=lengths)
    scores = random_scores(history)
    block = to_block(scores, history, -9.0)
    own = scores.split(list(lengths)) if lengths else ()
    for row, values in enumerate(own):
        assert block[row].tolist() == [*values.flip(0).tolist(), *[-9.0] * (6 - len(values))]
    assert torch.equal(from_block(block, history), scores)


@each_shape
@pytest.mark.parametrize("chooses", [False, True])
def test_softmax_of_each_row_by_a_loop(lengths, chooses):
    history = random_history(lengths=lengths)
    scores = (5 * random_scores(history)).requires_grad_()
    chosen = random_scores(history, seed=2) > 0 if chooses else torch.ones(len(scores)).bool()
    got = softmax(scores, history, chosen if chooses else None)
    expected = scores * 0
    for row in range(len(lengths)):
        mine = (history.rows == row) & chosen
        expected[mine] = torch.softmax(scores[mine], 0)
    torch.testing.assert_close(got, expected)
    upstream = random_scores(history, seed=3)
    (slope,) = torch.autograd.grad((got * upstream).sum(), scores, retain_graph=True)
    (plain,) = torch.autograd.grad((expected * upstream).sum(), scores)
    torch.testing.assert_close(slope, plain)


def test_softmax_of_scores_that_overflow_stays_finite():
    history = random_history(lengths=(2, 0))
    assert softmax(torch.tensor([1e30, -1e30]), history).tolist() == [1.0, 0.0]


@each_shape
@pytest.mark.parametrize("k", [1, 2, 4, 6, 9])
def test_top_k_by_a_loop_with_ties_to_the_most_recent(lengths, k):
    history = random_history(lengths=lengths)
    scores = random_scores(history).mul(2).round()  # with ties
    mask = top_k(scores, history, k)
    ranks, found = ranked_top_k(scores, history, k)
    assert ranks.shape == found.shape == (len(lengths), k)
    for row in range(len(lengths)):
        mine = history.rows == row
        items = sorted(zip((-scores[mine]).tolist(), history.ranks[mine].tolist(), strict=True))[:k]
        best = [rank for _, rank in items]
        assert sorted(history.ranks[mine & mask].tolist()) == sorted(best)
        missing = k - len(items)
        assert ranks[row].tolist() == best + [0] * missing
        assert found[row].tolist() == [-score for score, _ in items] + [-torch.inf] * missing
