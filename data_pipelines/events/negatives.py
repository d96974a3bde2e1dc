"""Negatives: items drawn for targets. A draw depends only on (seed, user, target, number).

So the same log and seed give the same negatives on any machine, however the log is divided.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from data_pipelines.encoding.hashing import UInt64s, finalize, hash64_text
from data_pipelines.encoding.vocabulary import Int64s
from data_pipelines.recipe import Negatives
from recsys.errors import RecsysError

MAX_ATTEMPTS = 1000
GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Catalog:
    """The items that can be drawn, in the order of the hashes of their texts."""

    items: Int64s  # item codes
    weights_to: Int64s | None  # cumulative weights; None: equal weights

    @classmethod
    def of(cls, texts: pl.Series, target_counts: Int64s, rule: Negatives) -> "Catalog":
        """All items that are a target of any user; `texts` and `target_counts` by item code."""
        items = np.flatnonzero(target_counts)
        items = items[np.argsort(hash64_text(texts.gather(items)), kind="stable")]
        weights_to = np.cumsum(target_counts[items]) if rule.sampling == "popularity" else None
        return cls(items, weights_to)

    def draw(self, hashes: UInt64s) -> Int64s:
        """Draws one item code for each hash."""
        shares = (hashes >> np.uint64(11)).astype(np.float64) * 2.0**-53
        if self.weights_to is None:
            return self.items[(shares * len(self.items)).astype(np.int64)]
        numbers = (shares * self.weights_to[-1]).astype(np.int64)
        return self.items[np.searchsorted(self.weights_to, numbers, side="right")]


def sample_hashes(seed: int, users: Int64s, positions: Int64s, number: int) -> UInt64s:
    """Hashes of samples, (targets,); `number` is 0 for the targets and 1… for their negatives.

    `users` are the hashes of users, `positions` those of the targets among the user's events.
    """
    of_user = finalize(users.astype(np.uint64) + finalize(_steps(np.array([seed + 1]))))
    of_target = finalize(of_user + _steps(positions))
    return finalize(of_target + _steps(np.array([number])))


def _steps(numbers: Int64s) -> UInt64s:
    return numbers.astype(np.uint64) * GOLDEN


def user_item_keys(user_index: Int64s, items: NDArray[np.uint32]) -> UInt64s:
    """A unique number for each pair of user and item."""
    return (user_index.astype(np.uint64) << np.uint64(32)) | items.astype(np.uint64)


def draw_negatives(
    hashes: UInt64s, user_index: Int64s, own: UInt64s, catalog: Catalog
) -> NDArray[np.uint32]:
    """Draws an item for each hash, again if the user has an event with it.

    `own` are the sorted `user_item_keys` of all events.
    """
    drawn = np.zeros(len(hashes), np.uint32)
    open_rows = np.arange(len(hashes))
    for attempt in range(MAX_ATTEMPTS):
        items = catalog.draw(finalize(hashes[open_rows] + _steps(np.array([attempt + 1]))))
        drawn[open_rows] = items
        keys = user_item_keys(user_index[open_rows], drawn[open_rows])
        positions = np.minimum(np.searchsorted(own, keys), len(own) - 1)
        open_rows = open_rows[own[positions] == keys]
        if not len(open_rows):
            return drawn
    raise RecsysError(
        "no negative can be drawn: a user has events with almost all items",
        where="events.negatives",
        expected=f"an item without such events, in {MAX_ATTEMPTS} draws of {len(catalog.items)}",
        fix="remove such users from the log, or set events.negatives.sampling=uniform",
    )
