"""Log loss, computed from logits so that sure predictions lose no digits."""

import math

import numpy as np
from numpy.typing import ArrayLike

from recsys.metrics.predictions import check_predictions, chunks


def compute_log_loss(logits: ArrayLike, labels: ArrayLike) -> float:
    """Mean binary cross-entropy in nats; 0.693 is a coin toss, infinite for a sure mistake."""
    scores, clicks = check_predictions(logits, labels)
    sums = []
    for part in chunks(len(scores)):
        logit = scores[part].astype(np.float64)
        # -ln sigmoid(x) = ln(1 + exp(-x)), with x = logit for a click and -logit for none.
        sums.append(float(np.logaddexp(0.0, np.where(clicks[part], -logit, logit)).sum()))
    return math.fsum(sums) / len(scores)
