"""Rows whose search hangs by a hair are told from rows that are wrong."""

from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from recsys.cli.verification import describe_parity
from recsys.serving.search_stage import Retrieved
from recsys.verification.comparison import Comparison
from recsys.verification.search_ties import SearchTies

MANIFEST = SimpleNamespace(label="label", embeddings=(), histories=frozenset())
REFERENCE = SimpleNamespace(name="run")
ROWS = pl.DataFrame({"is_tied": [False, True, True, False]})
LOGITS = np.array([0.5, 0.5, 0.5, 0.5], np.float32)


class Ties:
    """Knows which rows are tied by a column of theirs."""

    def is_tie(self, encoded):
        return encoded["is_tied"].item()


def compare(differing, ties, rows=ROWS):
    comparison = Comparison("reader", REFERENCE, "rows", MANIFEST, "native", ties)
    comparison.add(rows, LOGITS + 0.1 * np.isin(np.arange(4), differing), LOGITS)
    return comparison


def test_a_tie_is_counted_and_left_out():
    parity = compare([1], Ties()).result()
    assert (parity.passed, parity.search_ties, parity.max_abs_difference) == (True, 1, 0.0)
    assert "because of ties in their search: 1" in describe_parity([parity])
    assert "ties" not in describe_parity([compare([], Ties()).result()])


@pytest.mark.parametrize(
    ("differing", "ties", "first"),
    [([3], Ties(), 3), ([1], None, 1), ([1, 3], Ties(), 3), ([1, 2], Ties(), 2)],
)
def test_what_is_no_tie_and_too_many_ties_are_failures(differing, ties, first):
    comparison = compare(differing, ties)
    assert not comparison.result().passed
    assert comparison.first_failure[0] == first


class Stage:
    """Finds behaviours of given scores, highest first."""

    search = SimpleNamespace(num_found=2)

    def __init__(self, *scores):
        self.scores = np.array(scores, np.float32)

    def retrieve(self, _target, _history, k):
        return Retrieved(np.arange(1, 1 + len(self.scores))[:k], self.scores[:k])


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ((3.0, 2.0, 1.0), False),
        ((3.0, 2.0, 2.0 - 1e-6), True),
        ((3.0, 2.0, 1.99), False),
        ((2.0, 2.0), False),  # all that there is, is found
        ((2.0, 2.0, 1.0, 1.0), False),  # nothing hangs on these
        ((3e-6, 2e-6, 1e-6), False),  # scores are small, but apart
        ((), False),
    ],
)
def test_only_the_last_that_is_found_can_be_tied(scores, expected):
    ties = SearchTies("nowhere", SimpleNamespace(pairs=()))
    ties.stages = [Stage(3.0, 2.0), Stage(*scores)]
    assert ties.is_tie(ROWS[:1]) is expected
