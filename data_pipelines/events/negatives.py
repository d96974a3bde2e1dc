"""Items drawn against a target: each draw is a function of (seed, user, target, number) alone.

So the same log and seed give the same negatives, however the log is cut up, and on any machine.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from data_pipelines.encoding.hashing import UInt64s, finalise, hash64_text
from data_pipelines.rules.events import Negatives
from recsys.errors import RecsysError

MAX_ATTEMPTS = 1000
GOLDEN = np.uint64(0x9E3779B97F4A7C15)

Int64s = NDArray[np.int64]


@dataclass(frozen=True)
class Catalogue:
    """The items that can be drawn, in the order of their texts' hashes, not of the log's rows."""

    items: Int64s  # item codes
    weights_to: Int64s | None  # cumulative weights; None: all alike

    @classmethod
    def of(cls, texts: pl.Series, target_counts: Int64s, rule: Negatives) -> "Catalogue":
        """Every item that is a target somewhere; `texts` and `target_counts` by item code."""
        items = np.flatnonzero(target_counts)
        items = items[np.argsort(hash64_text(texts.gather(items)), kind="stable")]
        weights_to = np.cumsum(target_counts[items]) if rule.sampling == "popularity" else None
        return cls(items, weights_to)

    def draw(self, hashes: UInt64s) -> Int64s:
        """One item code for each hash."""
        shares = (hashes >> np.uint64(11)).astype(np.float64) * 2.0**-53
        if self.weights_to is None:
            return self.items[(shares * len(self.items)).astype(np.int64)]
        numbers = (shares * self.weights_to[-1]).astype(np.int64)
        return self.items[np.searchsorted(self.weights_to, numbers, side="right")]


def sample_hashes(seed: int, users: Int64s, places: Int64s, number: int) -> UInt64s:
    """A hash for each target, (targets,); `number` is 0 for itself, 1… for its negatives.

    `users` are hashes of users, `places` those of the targets among their users' events.
    """
    of_user = finalise(users.astype(np.uint64) + finalise(_steps(np.array([seed + 1]))))
    of_target = finalise(of_user + _steps(places))
    return finalise(of_target + _steps(np.array([number])))


def _steps(numbers: Int64s) -> UInt64s:
    return numbers.astype(np.uint64) * GOLDEN


def user_item_keys(user_index: Int64s, items: NDArray[np.uint32]) -> UInt64s:
    """One number for each (user, item)."""
    return (user_index.astype(np.uint64) << np.uint64(32)) | items.astype(np.uint64)


def draw_negatives(
    hashes: UInt64s, user_index: Int64s, own: UInt64s, catalogue: Catalogue
) -> NDArray[np.uint32]:
    """An item for each hash, drawn again while the user has it; `own` are the sorted keys."""
    drawn = np.zeros(len(hashes), np.uint32)
    open_rows = np.arange(len(hashes))
    for attempt in range(MAX_ATTEMPTS):
        items = catalogue.draw(finalise(hashes[open_rows] + _steps(np.array([attempt + 1]))))
        drawn[open_rows] = items
        keys = user_item_keys(user_index[open_rows], drawn[open_rows])
        places = np.minimum(np.searchsorted(own, keys), len(own) - 1)
        open_rows = open_rows[own[places] == keys]
        if not len(open_rows):
            return drawn
    raise RecsysError(
        "a user has events with (nearly) every item, so that no negative can be drawn",
        where="events.negatives",
        expected=f"a free item within {MAX_ATTEMPTS} draws among {len(catalogue.items)} items",
        fix="drop such users from the log, or use sampling uniform",
    )
