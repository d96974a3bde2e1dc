"""Calibration: do the probabilities add up to the clicks?"""

import numpy as np
from numpy.typing import ArrayLike

from recsys.metrics.predictions import check_predictions, probability_sum


def compute_calibration(logits: ArrayLike, labels: ArrayLike) -> float | None:
    """Mean probability ÷ mean label: 1.1 predicts 10 % too many clicks; None without positives."""
    scores, clicks = check_predictions(logits, labels)
    positives = int(np.count_nonzero(clicks))
    return probability_sum(scores) / positives if positives else None
