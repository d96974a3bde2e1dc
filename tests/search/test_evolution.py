"""Evolution: what it proposes, that it forgets nothing, and that it goes on where it stopped."""

import json

import pytest

from recsys.config.search import OptEmbedSearchConfig
from recsys.errors import RecsysError
from recsys.search.candidates import Candidate, choose, largest, rank
from recsys.search.evolution import Evolution, Sizes

SIZES = Sizes(rows=(100, 50, 10), fixed_bytes=8, embedding_dims=(6, 6, 6))
FULL = SIZES.bytes_of((6, 6, 6))


def evolution(max_bytes=FULL, is_free=(True, True, True), seed=0, **options) -> Evolution:
    search = OptEmbedSearchConfig.model_validate({"generations": 8, **options})
    return Evolution(search, SIZES, is_free, max_bytes, seed)


def score(genes) -> float:
    """The second table is worth most, the first nothing."""
    return 0.5 + 0.05 * min(genes[1], 4) + 0.01 * min(genes[2], 2)


def run(evolution, generations=100):
    while not evolution.is_over and generations:
        proposed = evolution.propose()
        evolution.record([Candidate(g, SIZES.bytes_of(g), score(g)) for g in proposed])
        generations -= 1
    return evolution


def test_bytes_are_rows_times_columns_and_what_is_stored_beside():
    assert SIZES.bytes_of((1, 2, 3)) == 4 * (100 + 100 + 30) + 8


def test_the_random_start_holds_the_whole_supernet_and_nothing_twice():
    start = evolution().propose()
    assert len(start) == len(set(start)) == 20
    assert start[0] == (6, 6, 6)


def test_every_number_of_columns_is_drawn_by_start_and_mutation():
    search = evolution(mutation_probability=1.0)
    drawn = {d for _ in range(200) for d in search.mutated((6, 6, 6))}
    assert drawn == {1, 2, 3, 4, 5, 6}


def test_a_mutation_leaves_its_parent_alone():
    search, parent = evolution(mutation_probability=1.0), (6, 6, 6)
    assert search.mutated(parent) != parent
    assert parent == (6, 6, 6)


def test_a_crossover_takes_something_from_both_parents():
    search = evolution()
    children = {search.crossed((1, 1, 1), (2, 2, 2)) for _ in range(50)}
    assert children == {(1, 2, 2), (1, 1, 2)}


def test_the_best_is_never_lost_and_the_truth_is_found():
    search, best = evolution(), []
    while not search.is_over:
        run(search, generations=1)
        best.append(rank(search.scored.values())[0].auc)
    assert best == sorted(best)
    assert best[-1] == pytest.approx(0.72)
    chosen = choose(search.scored.values(), search.search, FULL)
    assert chosen.auc == pytest.approx(0.72)
    assert chosen.bytes < FULL


def test_each_candidate_is_scored_once():
    search = evolution()
    seen = []
    while not search.is_over:
        proposed = search.propose()
        seen += proposed
        search.record([Candidate(g, SIZES.bytes_of(g), score(g)) for g in proposed])
    assert len(seen) == len(set(seen))


def test_no_candidate_exceeds_the_budget():
    search = run(evolution(max_bytes=FULL // 4))
    assert all(c.bytes <= FULL // 4 for c in search.scored.values())
    # 962 bytes are 238 numbers: one column of the first table leaves two for the second
    assert choose(search.scored.values(), search.search, FULL // 4).genes[:2] == (1, 2)


def test_columns_that_are_not_free_are_left_alone():
    search = run(evolution(is_free=(False, True, True)))
    assert {c.genes[0] for c in search.scored.values()} == {6}
    assert len(run(evolution(is_free=(False,) * 3)).scored) == 1


@pytest.mark.parametrize("stop", [1, 4])
def test_it_goes_on_from_its_saved_state_as_if_never_stopped(stop):
    whole = run(evolution())
    first = run(evolution(), generations=stop)
    saved = json.loads(json.dumps(first.state()))
    second = evolution(seed=7)
    second.restore(saved)
    assert run(second).state() == whole.state()


def test_the_smallest_within_the_tolerance_is_chosen():
    candidates = [
        Candidate((3,), 300, 0.800),
        Candidate((2,), 200, 0.799),
        Candidate((1,), 100, 0.790),
    ]
    exact = OptEmbedSearchConfig()
    assert choose(candidates, exact, 1000).genes == (3,)
    assert choose(candidates, OptEmbedSearchConfig(tolerance=0.001001), 1000).genes == (2,)
    assert choose(candidates, exact, 150).genes == (1,)


def test_the_largest_within_the_budget_fills_it():
    candidates = [Candidate((n,), 100 * n, 0.8 - n / 100) for n in (1, 2, 3)]
    assert largest(candidates, 299).genes == (2,)
    assert largest(candidates, 300).genes == (3,)


def test_a_budget_that_nothing_fits_is_refused():
    candidates = [Candidate((1,), 100, 0.7)]
    with pytest.raises(RecsysError, match="fits into the budget"):
        choose(candidates, OptEmbedSearchConfig(budget_bytes=50), 50)
    with pytest.raises(RecsysError, match="fits into the budget"):
        largest(candidates, 50)
