"""Log loss, computed from logits so that confident predictions lose no digits."""

import math

import numpy as np
from numpy.typing import ArrayLike

from recsys.metrics.metric import Metric
from recsys.metrics.predictions import check_predictions, chunks


def compute_log_loss(logits: ArrayLike, labels: ArrayLike) -> float:
    """Mean binary cross entropy.

    Args:
        logits: (n,) log odds, float32 or float64.
        labels: (n,) 0 or 1, or booleans.

    Returns:
        Nats per row; ln 2 = 0.693 for a probability of 0.5 everywhere, infinite if an infinite
        logit is wrong.

    Raises:
        RecsysError: as `compute_auc`.

    >>> round(compute_log_loss([0.0, 0.0], [0, 1]), 4)
    0.6931
    """
    scores, clicks = check_predictions(logits, labels)
    sums = []
    for part in chunks(len(scores)):
        logit = scores[part].astype(np.float64)
        # -ln sigmoid(x) = ln(1 + exp(-x)), with x = logit for a click and -logit for none.
        sums.append(float(np.logaddexp(0.0, np.where(clicks[part], -logit, logit)).sum()))
    return math.fsum(sums) / len(scores)


LOG_LOSS = Metric(
    name="log_loss",
    title="log loss",
    definition="Mean cross entropy in nats. Predicting 0.5 for every row gives 0.693.",
    compute=compute_log_loss,
    better="lower",
    note="nats per row",
    at_validation=True,
)
