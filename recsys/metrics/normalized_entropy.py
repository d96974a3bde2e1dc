"""Normalised entropy: log loss beside that of always predicting the base rate.

X. He et al., "Practical lessons from predicting clicks on ads at Facebook", ADKDD 2014, §2.
"""

import math

from numpy.typing import ArrayLike

from recsys.metrics.log_loss import compute_log_loss
from recsys.metrics.predictions import check_predictions


def compute_normalized_entropy(logits: ArrayLike, labels: ArrayLike) -> float | None:
    """Log loss ÷ entropy of the labels' mean: 1 is no model at all; None for one class."""
    scores, clicks = check_predictions(logits, labels)
    rate = float(clicks.mean())
    if rate in (0.0, 1.0):
        return None
    entropy = -rate * math.log(rate) - (1 - rate) * math.log1p(-rate)
    return compute_log_loss(scores, clicks) / entropy
