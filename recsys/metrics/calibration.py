"""Calibration: do the probabilities add up to the number of positives?"""

import numpy as np
from numpy.typing import ArrayLike

from recsys.metrics.metric import Metric
from recsys.metrics.predictions import check_predictions, probability_sum


def compute_calibration(logits: ArrayLike, labels: ArrayLike) -> float | None:
    """Mean probability ÷ mean label.

    Args:
        logits: (n,) log odds, float32 or float64.
        labels: (n,) 0 or 1, or booleans.

    Returns:
        A ratio: 1.1 if the model predicts 10 % too many positives. None if there are none.

    Raises:
        RecsysError: as `compute_auc`.

    >>> compute_calibration([0.0, 0.0, 0.0], [0, 1, 0])
    1.5
    """
    scores, clicks = check_predictions(logits, labels)
    positives = int(np.count_nonzero(clicks))
    return probability_sum(scores) / positives if positives else None


CALIBRATION = Metric(
    name="calibration",
    title="calibration",
    definition="Mean predicted probability ÷ observed positive rate; 1.1 means that predictions "
    "are 10 % too high on average.",
    compute=compute_calibration,
    better="near 1",
    requires="a positive row",
    note="predicted ÷ observed",
    digits=3,
)
