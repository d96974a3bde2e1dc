"""The ROC curve, with few points."""

import numpy as np
from numpy.typing import ArrayLike

from recsys.metrics.mid_ranks import sort_by_class
from recsys.metrics.predictions import Floats, check_predictions


def compute_roc(
    logits: ArrayLike, labels: ArrayLike, num_points: int = 200
) -> tuple[Floats, Floats] | None:
    """Points of the ROC curve.

    Args:
        logits: (n,) scores, float32 or float64.
        labels: (n,) 0 or 1, or booleans.
        num_points: about how many thresholds are kept, spread evenly over both axes.

    Returns:
        False and true positive rates, both ascending from (0, 0) to (1, 1), exact at each kept
        threshold. None if there is only one class.

    Raises:
        RecsysError: as `compute_auc`.
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
    """`count` values, evenly spaced in rank, including the smallest and the largest."""
    return ascending[np.linspace(0, len(ascending) - 1, count).astype(np.int64)]


def share_at_least(ascending: Floats, thresholds: Floats) -> Floats:
    below = np.searchsorted(ascending, thresholds, side="left")
    return 1 - below / len(ascending)
