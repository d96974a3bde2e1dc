"""Differences of means over seeds, with Student's 95 % interval: a few seeds tell only so much."""

import statistics
from collections.abc import Sequence

from scipy import stats


def paired(differences: Sequence[float]) -> str:
    """Mean of differences seed by seed ± the half width of its interval; no interval for one."""
    mean = statistics.mean(differences)
    if len(differences) < 2:
        return f"{mean:+.4f}"
    error = statistics.stdev(differences) / len(differences) ** 0.5
    return f"{mean:+.4f} ± {stats.t.ppf(0.975, len(differences) - 1) * error:.4f}"


def unpaired(values: Sequence[float], others: Sequence[float]) -> str:
    """Mean of `values` less that of `others` ± the half width of Welch's interval."""
    difference = statistics.mean(values) - statistics.mean(others)
    if min(len(values), len(others)) < 2:
        return f"{difference:+.4f}"
    interval = stats.ttest_ind(values, others, equal_var=False).confidence_interval(0.95)
    return f"{difference:+.4f} ± {(interval.high - interval.low) / 2:.4f}"
