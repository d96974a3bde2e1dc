"""Checks of the inputs of all metrics, and iteration over 10⁸ rows in chunks."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from recsys.errors import RecsysError

Z95 = 1.959963984540054  # the normal distribution's 97.5 % point
CHUNK_ROWS = 1 << 20

Floats = NDArray[np.floating]
Ints = NDArray[np.int64]
Booleans = NDArray[np.bool_]
Interval = tuple[float, float]


def check_predictions(logits: ArrayLike, labels: ArrayLike) -> tuple[Floats, Booleans]:
    """Returns logits (n,) as float32 or float64 and labels (n,) as booleans.

    Raises:
        RecsysError: there are no rows, the shapes differ, a logit is NaN, or a label is neither 0
            nor 1.
    """
    scores, clicks = np.asarray(logits), np.asarray(labels)
    if scores.ndim != 1 or scores.shape != clicks.shape:
        raise RecsysError(
            "logits and labels have different shapes",
            expected="two arrays of shape (n,)",
            got=f"logits {scores.shape}, labels {clicks.shape}",
        )
    if len(scores) == 0:
        raise RecsysError("there are no predictions", expected="at least one row")
    return check_logits(scores), check_labels(clicks)


def check_logits(logits: NDArray[np.generic]) -> Floats:
    scores: Floats = np.asarray(logits, np.float32 if logits.dtype == np.float32 else np.float64)
    missing = int(np.count_nonzero(np.isnan(scores)))
    if missing:
        raise RecsysError(
            "some logits are NaN",
            where=f"row {int(np.isnan(scores).argmax())} is the first",
            expected="a number in every row",
            got=f"{missing} of {len(scores)} rows",
            fix="the training diverged: lower the learning rate or look for NaN in the inputs",
        )
    return scores


def check_labels(labels: NDArray[np.generic]) -> Booleans:
    if labels.dtype == np.bool_:
        return labels.astype(np.bool_, copy=False)
    clicks = labels == 1
    wrong = ~(clicks | (labels == 0))
    if wrong.any():
        row = int(wrong.argmax())
        raise RecsysError(
            "invalid label: neither 0 nor 1", where=f"row {row}", expected="0 or 1", got=labels[row]
        )
    return clicks


def chunks(rows: int) -> Iterator[slice]:
    """Slices that cover `rows` rows, so that temporaries stay in the cache."""
    for start in range(0, rows, CHUNK_ROWS):
        yield slice(start, min(start + CHUNK_ROWS, rows))


def probability_sum(logits: Floats) -> float:
    """Sum of the probabilities, added in float64."""
    return float(sum(expit(logits[part].astype(np.float64)).sum() for part in chunks(len(logits))))
