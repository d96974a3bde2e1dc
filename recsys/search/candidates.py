"""Candidates: choices of rows and columns of the searched tables, with their bytes and AUC."""

from collections.abc import Collection, Iterable
from typing import NamedTuple

from recsys.config.search import BaseSearchConfig
from recsys.errors import RecsysError


class Candidate(NamedTuple):
    """One choice. `genes`: columns by table, or the number of kept cells; its method knows."""

    genes: tuple[int, ...]
    bytes: int
    auc: float


def rank(candidates: Iterable[Candidate]) -> list[Candidate]:
    """The best first: by AUC, then the smaller, then by genes, so that no tie hangs on chance."""
    return sorted(candidates, key=lambda c: (-c.auc, c.bytes, c.genes))


def choose(
    candidates: Collection[Candidate], search: BaseSearchConfig, max_bytes: int
) -> Candidate:
    """The smallest within the budget whose AUC is at most `tolerance` below the best there."""
    fitting = within(candidates, max_bytes)
    best = max(candidate.auc for candidate in fitting)
    good = [candidate for candidate in fitting if candidate.auc >= best - search.tolerance]
    return min(good, key=lambda c: (c.bytes, -c.auc, c.genes))


def largest(candidates: Collection[Candidate], max_bytes: int) -> Candidate:
    """What fills the budget best."""
    return max(within(candidates, max_bytes), key=lambda c: (c.bytes, c.auc, c.genes))


def within(candidates: Collection[Candidate], max_bytes: int) -> list[Candidate]:
    """Those that the budget allows; there must be one."""
    fitting = [candidate for candidate in candidates if candidate.bytes <= max_bytes]
    if not fitting:
        raise RecsysError(
            "no candidate fits into the budget",
            where="search.budget_share or search.budget_bytes",
            expected=f"at least the smallest one's {min(c.bytes for c in candidates):,} bytes",
            got=f"{max_bytes:,} bytes",
            fix="raise the budget",
        )
    return fitting
