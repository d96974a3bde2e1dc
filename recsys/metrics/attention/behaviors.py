"""Behaviors: rows with histories, as flat arrays, to measure attention and retrieval."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from recsys.errors import RecsysError
from recsys.metrics.predictions import Booleans, Floats, Ints


@dataclass(frozen=True)
class Behaviors:
    """n rows and their L behaviors, concatenated, each row's oldest first.

    targets: (n,) ids of what is offered, ids: (L,) of earlier behaviors, both of one vocabulary
    (such as categories). lengths: (n,) number of behaviors of each row. labels: (n,).
    """

    targets: Ints
    ids: Ints
    lengths: Ints
    labels: Booleans

    def __post_init__(self) -> None:
        """Refuses arrays of inconsistent lengths."""
        rows = {len(self.targets), len(self.lengths), len(self.labels)}
        if len(rows) > 1 or int(self.lengths.sum()) != len(self.ids):
            raise RecsysError(
                "targets, histories and labels have inconsistent lengths",
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
        """Sorts each row's behaviors by score, highest first, ties by recency.

        Returns:
            The order (L,), and the position (L,) of each entry within its row, from 0.
        """
        order = np.lexsort((self.ranks, -scores, self.rows))
        starts = self.ends - self.lengths
        return order, np.arange(len(order)) - starts[self.rows]

    def top_ranks(self, scores: Floats, k: int) -> Ints:
        """(n, k) ranks of each row's k highest scores, best first; 0 for none."""
        order, places = self.order_by(scores)
        chosen = places < k
        found = np.zeros((len(self.lengths), k), dtype=np.int64)
        found[self.rows[chosen], places[chosen]] = self.ranks[order[chosen]]
        return found
