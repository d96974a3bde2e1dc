"""DeLong's interval of an AUC, and the paired test of two models on the same rows.

E. R. DeLong, D. M. DeLong, D. L. Clarke-Pearson, "Comparing the areas under two or more correlated
receiver operating characteristic curves: a nonparametric approach", Biometrics 44 (1988), §2; by
mid-ranks as in X. Sun, W. Xu, IEEE Signal Processing Letters 21 (2014): O(n log n), not O(n²).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from recsys.errors import RecsysError
from recsys.metrics.intervals.small_samples import few_rows_interval
from recsys.metrics.mid_ranks import auc_of_sorted, sort_by_class, twice_ranks
from recsys.metrics.predictions import Z95, Booleans, Floats, Interval, check_predictions, chunks

# DeLong's interval is too narrow if (rows of the smaller class) · min(AUC, 1 - AUC) is less
FEW_ERRORS = 20
# rows of each class for a paired test; with 5 it rejects a true null in 12 % of samples, not 5 %
FEWEST_PAIRED = 10


@dataclass(frozen=True)
class AucInterval:
    """`auc` with its 95 % interval; `reason` says why either is None."""

    auc: float | None
    ci95: Interval | None
    reason: str | None = None


@dataclass(frozen=True)
class PairedAucTest:
    """Two models on the same rows: `difference` = auc_b - auc_a, with its 95 % interval.

    `p_value` is the probability of a difference at least as large if both had the same true AUC.
    `reason` says why there is no test; then interval and p-value are None.
    """

    auc_a: float
    auc_b: float
    difference: float
    ci95: Interval | None
    p_value: float | None
    reason: str | None = None


def compute_auc_interval(logits: ArrayLike, labels: ArrayLike) -> AucInterval:
    """AUC and its 95 % interval; arguments, errors and memory as `compute_auc`.

    The interval is DeLong's (normal approximation, clipped to 0…1), or a wider one for small
    samples, see `small_samples.py`.

    >>> compute_auc_interval([0.1, 0.4, 0.35], [0, 0, 0]).reason
    'only negatives'
    """
    negatives, positives = sort_by_class(*check_predictions(logits, labels))
    auc = auc_of_sorted(negatives, positives)
    if auc is None:
        return AucInterval(None, None, "only positives" if len(positives) else "only negatives")
    if min(len(negatives), len(positives)) < 2:
        return AucInterval(auc, None, "an interval needs two rows of each class")
    variance = mean_variance(positives, negatives, auc) + mean_variance(
        negatives, positives, 1 - auc
    )
    if min(len(negatives), len(positives)) * min(auc, 1 - auc) < FEW_ERRORS:
        found = few_rows_interval(auc, variance, len(positives), len(negatives))
        return AucInterval(auc, found)
    margin = Z95 * math.sqrt(variance)
    return AucInterval(auc, (max(0.0, auc - margin), min(1.0, auc + margin)))


def mean_variance(values: Floats, others: Floats, mean: float) -> float:
    """Variance of the mean, over `values`, of the share of `others` (ascending) below them."""
    squares = 0.0
    for part in chunks(len(values)):
        shares = twice_ranks(values[part], others) / (2 * len(others))
        squares += float(np.square(shares - mean).sum())
    return squares / (len(values) - 1) / len(values)


def compare_aucs(logits_a: ArrayLike, logits_b: ArrayLike, labels: ArrayLike) -> PairedAucTest:
    """DeLong's paired two-sided test of two models on the same rows; about 40 bytes per row.

    Args:
        logits_a: (n,) scores of model a.
        logits_b: (n,) scores of model b for the same rows.
        labels: (n,) 0 or 1, or booleans.

    Returns:
        The difference in AUC, b - a, with its interval and p-value.

    Raises:
        RecsysError: as `compute_auc`, or a class has fewer than two rows.
    """
    scores_a, clicks = check_predictions(logits_a, labels)
    scores_b, _ = check_predictions(logits_b, labels)
    num_positives = int(np.count_nonzero(clicks))
    if min(num_positives, len(clicks) - num_positives) < 2:
        raise RecsysError(
            "too few rows to compare two models",
            expected="at least two rows of each class",
            got=f"{num_positives} positives, {len(clicks) - num_positives} negatives",
        )
    above_a, below_a = placements(scores_a, clicks)
    above_b, below_b = placements(scores_b, clicks)
    variance_a, variance_b, variance = (
        _variance(above, below)
        for above, below in (
            (above_a, below_a),
            (above_b, below_b),
            (above_b - above_a, below_b - below_a),
        )
    )
    auc_a, auc_b = float(above_a.mean()), float(above_b.mean())
    reason = None
    if min(len(above_a), len(below_a)) < FEWEST_PAIRED:
        reason = f"a class has fewer than {FEWEST_PAIRED} rows"
    elif variance_a == variance_b == 0.0 or (variance == 0.0 and auc_a != auc_b):
        reason = "the AUCs have no variance on these rows"
    if reason is not None:
        return PairedAucTest(auc_a, auc_b, auc_b - auc_a, None, None, reason)
    return paired_test(auc_a, auc_b, math.sqrt(variance))


def _variance(above: Floats, below: Floats) -> float:
    """Variance of the mean of both classes' placements, or of differences of placements."""
    return float(np.var(above, ddof=1) / len(above) + np.var(below, ddof=1) / len(below))


def placements(logits: Floats, labels: Booleans) -> tuple[Floats, Floats]:
    """Share of negatives below each positive, share of positives below each negative; row order."""
    negatives, positives = sort_by_class(logits, labels)
    above = twice_ranks(logits[labels], negatives) / (2 * len(negatives))
    below = twice_ranks(logits[~labels], positives) / (2 * len(positives))
    return above, below


def paired_test(auc_a: float, auc_b: float, standard_error: float) -> PairedAucTest:
    """The test from the standard error, which is 0 only if there is no difference."""
    difference = auc_b - auc_a
    p_value = 1.0
    if standard_error > 0:
        p_value = math.erfc(abs(difference) / standard_error / math.sqrt(2))
    margin = Z95 * standard_error
    ci95 = (difference - margin, difference + margin)
    return PairedAucTest(auc_a, auc_b, difference, ci95, p_value)
