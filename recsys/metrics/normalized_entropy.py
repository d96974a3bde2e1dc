"""Normalized entropy: log loss relative to always predicting the base rate.

X. He et al., "Practical lessons from predicting clicks on ads at Facebook", ADKDD 2014, §2.
"""

import math

from numpy.typing import ArrayLike

from recsys.metrics.log_loss import compute_log_loss
from recsys.metrics.metric import Metric
from recsys.metrics.predictions import check_predictions


def compute_normalized_entropy(logits: ArrayLike, labels: ArrayLike) -> float | None:
    """Log loss ÷ entropy of the mean label.

    Args:
        logits: (n,) log odds, float32 or float64.
        labels: (n,) 0 or 1, or booleans.

    Returns:
        A ratio: 1 for predicting the base rate in every row, lower is better. None if there is only
        one class.

    Raises:
        RecsysError: as `compute_auc`.

    >>> compute_normalized_entropy([0.0, 0.0], [0, 1])
    1.0
    """
    scores, clicks = check_predictions(logits, labels)
    rate = float(clicks.mean())
    if rate in (0.0, 1.0):
        return None
    entropy = -rate * math.log(rate) - (1 - rate) * math.log1p(-rate)
    return compute_log_loss(scores, clicks) / entropy


NORMALIZED_ENTROPY = Metric(
    name="normalized_entropy",
    title="normalized entropy",
    definition="Log loss ÷ the entropy of the split's positive rate; below 1 is better than "
    "predicting that rate for every row.",
    compute=compute_normalized_entropy,
    better="lower",
    requires="rows of both classes",
    note="1 = constant prediction",
)
