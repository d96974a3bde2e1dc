"""Relevance of a behavior to a target: its mutual information with the label, from counts.

N. Feng et al., "Long-sequence recommendation models need decoupled embeddings" (DARE), ICLR 2025,
§4.3: for target category c, behavior category b and position p, the mutual information between
"the behavior at p is of category b" and the label, over the rows whose target is of category c.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from recsys.metrics.attention.behaviors import Behaviors
from recsys.metrics.predictions import Floats, Ints

ZERO_COUNT = 1e-5  # replaces a count of zero, as in the authors' evaluation


@dataclass(frozen=True)
class Evidence:
    """Counts of m cells; `information` in bits.

    positives, negatives: rows of the cell's target that have its behavior at its rank, by label.
    """

    information: Floats
    positives: Ints
    negatives: Ints

    @property
    def support(self) -> Ints:
        """(m,) rows of the less frequent label."""
        return np.minimum(self.positives, self.negatives)


class Relevance:
    """Counts rows for selected cells (target, behavior, rank), chunk by chunk.

    Memory grows with the cells and not with the rows. Ids are below `num_ids`, ranks at most
    `max_rank`; num_ids² · max_rank must fit in 62 bits.
    """

    def __init__(self, num_ids: int, max_rank: int) -> None:
        self.num_ids, self.max_rank = num_ids, max_rank
        self.keys: Ints = np.empty(0, np.int64)  # ascending
        self.counts = np.zeros((2, 0), np.int64)  # by label
        self.target_counts = np.zeros((2, num_ids), np.int64)

    def want(self, targets: Ints, ids: Ints, ranks: Ints) -> None:
        """Selects cells to count, (m,) each; to be called before the first `add`."""
        keys = np.sort(np.concatenate([self.keys, self._keys(targets, ids, ranks)]))
        self.keys = keys[np.flatnonzero(np.diff(keys, prepend=-1))]
        self.counts = np.zeros((2, len(self.keys)), np.int64)

    def add(self, behaviors: Behaviors) -> None:
        """Counts the rows; behaviors of ranks above `max_rank` are ignored."""
        near = behaviors.ranks <= self.max_rank
        rows = behaviors.rows[near]
        keys = self._keys(behaviors.targets[rows], behaviors.ids[near], behaviors.ranks[near])
        clicks = behaviors.labels[rows]
        for label in (0, 1):
            found = np.sort(keys[clicks == label])
            self.counts[label] += np.searchsorted(found, self.keys, side="right")
            self.counts[label] -= np.searchsorted(found, self.keys, side="left")
            targets = behaviors.targets[behaviors.labels == label]
            self.target_counts[label] += np.bincount(targets, minlength=self.num_ids)

    def evidence(self, targets: Ints, ids: Ints, ranks: Ints) -> Evidence:
        """The counts of these cells, (m,) each, which must have been selected with `want`."""
        keys = self._keys(targets, ids, ranks)
        at = np.searchsorted(self.keys, keys)
        if len(keys) and not np.array_equal(self.keys[np.minimum(at, len(self.keys) - 1)], keys):
            raise KeyError("no counts of a cell that was not selected")
        negatives, positives = self.counts[:, at]
        all_negatives, all_positives = self.target_counts[:, targets]
        information = compute_information(positives, negatives, all_positives, all_negatives)
        return Evidence(information, positives, negatives)

    def target_rows(self) -> Ints:
        """(num_ids,) counted rows of each target."""
        return self.target_counts.sum(axis=0)

    def _keys(self, targets: Ints, ids: Ints, ranks: Ints) -> Ints:
        return (targets.astype(np.int64) * self.num_ids + ids) * (self.max_rank + 1) + ranks


def compute_information(
    positives: ArrayLike, negatives: ArrayLike, all_positives: ArrayLike, all_negatives: ArrayLike
) -> Floats:
    """Mutual information between the presence of a behavior and the label.

    Args:
        positives: (m,) positive rows with the behavior.
        negatives: (m,) negative rows with it.
        all_positives: (m,) positive rows with and without it.
        all_negatives: (m,) negative rows with and without it.

    Returns:
        (m,) bits; 0 if presence and label are independent. A joint count of 0 is replaced by
        0.00001.

    >>> compute_information([40], [10], [50], [50]).round(3).tolist()
    [0.278]
    """
    with_it = np.array([positives, negatives], dtype=np.float64)
    without_it = np.array([all_positives, all_negatives], dtype=np.float64) - with_it
    joint = np.stack([with_it, without_it])  # (presence, label, m)
    joint[joint == 0] = ZERO_COUNT
    joint /= joint.sum(axis=(0, 1))
    independent = joint.sum(axis=0, keepdims=True) * joint.sum(axis=1, keepdims=True)
    information: Floats = (joint * np.log2(joint / independent)).sum(axis=(0, 1))
    return information
