"""Behaviors: rows with a history each, as flat arrays, for measuring what attention finds."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from recsys.errors import RecsysError
from recsys.metrics.predictions import Booleans, Floats, Ints


@dataclass(frozen=True)
class Behaviors:
    """n rows and their L behaviors end to end, each row's oldest first.

    targets: (n,) what is offered, ids: (L,) what came before, both ids of one vocabulary (of
    categories, say). lengths: (n,) behaviors of each row. labels: (n,).
    """

    targets: Ints
    ids: Ints
    lengths: Ints
    labels: Booleans

    def __post_init__(self) -> None:
        """Refuses arrays that do not belong together."""
        rows = {len(self.targets), len(self.lengths), len(self.labels)}
        if len(rows) > 1 or int(self.lengths.sum()) != len(self.ids):
            raise RecsysError(
                "targets, histories and labels do not belong together",
                expected=f"{len(self.targets)} rows and {int(self.lengths.sum())} behaviors",
                got=f"{len(self.lengths)} lengths, {len(self.labels)} labels, "
                f"{len(self.ids)} behaviors",
            )

    @cached_property
    def rows(self) -> Ints:
        """(L,) the row of each behavior."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)

    @cached_property
    def ends(self) -> Ints:
        """(n,) one past each row's last behavior."""
        return np.cumsum(self.lengths, dtype=np.int64)

    @cached_property
    def ranks(self) -> Ints:
        """(L,) 1 for a row's most recent behavior, 2 for the one before."""
        return self.ends[self.rows] - np.arange(len(self.ids))

    def order_by(self, scores: Floats) -> tuple[Ints, Ints]:
        """Rows kept together, highest score first, the more recent of equals first.

        Returns the order (L,) and each place's number within its row, from 0.
        """
        order = np.lexsort((self.ranks, -scores, self.rows))
        starts = self.ends - self.lengths
        return order, np.arange(len(order)) - starts[self.rows]

    def top_ranks(self, scores: Floats, k: int) -> Ints:
        """(n, k) ranks of each row's behaviors of the highest scores, best first; 0 = no more."""
        order, places = self.order_by(scores)
        chosen = places < k
        found = np.zeros((len(self.lengths), k), dtype=np.int64)
        found[self.rows[chosen], places[chosen]] = self.ranks[order[chosen]]
        return found
