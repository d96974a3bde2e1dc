"""Reliability: observed positive rate against mean probability in bins; and the ECE."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit

from recsys.metrics.metric import Metric
from recsys.metrics.predictions import Z95, Floats, Ints, check_predictions, chunks

NUM_BINS = 20


@dataclass(frozen=True)
class ReliabilityCurve:
    """One entry per bin, in ascending order of the logits; `low`, `high`: 95 % Wilson interval."""

    rows: Ints
    mean_probability: Floats
    click_rate: Floats
    low: Floats
    high: Floats


def compute_reliability(
    logits: ArrayLike, labels: ArrayLike, num_bins: int = NUM_BINS
) -> ReliabilityCurve:
    """Cuts the rows, sorted by logit, into `num_bins` bins of equal mass.

    Equal logits always share a bin, the one above the cut, in any order of the rows. Without ties
    at a cut, bins hold ⌊n/num_bins⌋ rows or one more; with ties, bins are uneven and fewer
    (constant predictions give one bin).
    """
    scores, clicks = check_predictions(logits, labels)
    edges = bin_edges(scores, num_bins)
    rows, probabilities, positives = np.zeros((3, len(edges) + 1))
    for part in chunks(len(scores)):
        bins = np.searchsorted(edges, scores[part], side="right")
        probability = expit(scores[part].astype(np.float64))
        rows += np.bincount(bins, minlength=len(rows))
        probabilities += np.bincount(bins, weights=probability, minlength=len(rows))
        positives += np.bincount(bins, weights=clicks[part], minlength=len(rows))
    filled = rows > 0
    rows, probabilities, positives = rows[filled], probabilities[filled], positives[filled]
    low, high = wilson_interval(positives, rows)
    return ReliabilityCurve(
        rows.astype(np.int64), probabilities / rows, positives / rows, low, high
    )


def bin_edges(logits: Floats, num_bins: int) -> Floats:
    """The first logit of each bin except the lowest, without duplicates."""
    ascending = np.sort(logits)
    starts = np.arange(1, num_bins) * len(logits) // num_bins
    return np.unique(ascending[starts])


def wilson_interval(positives: ArrayLike, rows: ArrayLike) -> tuple[Floats, Floats]:
    """95 % interval of a rate (E. B. Wilson, 1927): usable for few rows and for 0 positives."""
    n = np.asarray(rows, dtype=np.float64)
    rate = np.asarray(positives) / n
    scale = 1 + Z95**2 / n
    centre = (rate + Z95**2 / (2 * n)) / scale
    margin = Z95 * np.sqrt(rate * (1 - rate) / n + Z95**2 / (4 * n**2)) / scale
    return np.clip(centre - margin, 0.0, 1.0), np.clip(centre + margin, 0.0, 1.0)


def compute_ece(logits: ArrayLike, labels: ArrayLike, num_bins: int = NUM_BINS) -> float:
    """Expected calibration error: mean over rows of |mean probability - positive rate| of a bin.

    Args:
        logits: (n,) log odds, float32 or float64.
        labels: (n,) 0 or 1, or booleans.
        num_bins: bins of equal mass, see `compute_reliability`.

    Returns:
        A difference of probabilities, between 0 and 1; lower is better.

    Raises:
        RecsysError: as `compute_auc`.

    >>> compute_ece([0.0, 0.0, 0.0, 0.0], [0, 1, 0, 0])
    0.25
    """
    curve = compute_reliability(logits, labels, num_bins)
    gaps = np.abs(curve.mean_probability - curve.click_rate)
    return float(np.average(gaps, weights=curve.rows))


ECE = Metric(
    name="ece",
    title="ECE",
    definition="Expected calibration error: mean absolute difference between predicted probability "
    "and observed positive rate over bins of equal mass, rows sorted by prediction, equal "
    "predictions in one bin.",
    compute=compute_ece,
    better="lower",
    note=f"up to {NUM_BINS} bins of equal mass",
)
