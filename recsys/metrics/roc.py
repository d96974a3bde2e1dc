"""The ROC curve, thinned for drawing."""

import numpy as np
from numpy.typing import ArrayLike

from recsys.metrics.mid_ranks import sort_by_class
from recsys.metrics.predictions import Floats, check_predictions


def compute_roc(
    logits: ArrayLike, labels: ArrayLike, num_points: int = 200
) -> tuple[Floats, Floats] | None:
    """False and true positive rates, both ascending from (0, 0) to (1, 1); None for one class.

    Each point is an exact point of the curve; about `num_points` thresholds are kept, spread evenly
    over both axes.
    """
    negatives, positives = sort_by_class(*check_predictions(logits, labels))
    if not len(negatives) or not len(positives):
        return None
    thresholds = np.union1d(
        evenly_spaced(negatives, num_points // 2), evenly_spaced(positives, num_points // 2)
    )[::-1]
    return (
        np.concatenate(([0.0], share_at_least(negatives, thresholds), [1.0])),
        np.concatenate(([0.0], share_at_least(positives, thresholds), [1.0])),
    )


def evenly_spaced(ascending: Floats, count: int) -> Floats:
    """`count` of the values, evenly spaced in rank, the smallest and the largest among them."""
    return ascending[np.linspace(0, len(ascending) - 1, count).astype(np.int64)]


def share_at_least(ascending: Floats, thresholds: Floats) -> Floats:
    below = np.searchsorted(ascending, thresholds, side="left")
    return 1 - below / len(ascending)
