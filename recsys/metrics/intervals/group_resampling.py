"""Intervals by resampling groups: a user's rows hang together, so users are drawn anew, not rows.

B. Efron, R. Tibshirani, "An introduction to the bootstrap" (1993), §13.3: percentile interval.
"""

import numpy as np

from recsys.metrics.predictions import Floats, Interval

NUM_DRAWS, FEWEST_DRAWS = 1000, 200
MAX_COUNTS = 100_000_000  # drawn numbers in all, about six seconds
COUNTS_AT_ONCE = 4_000_000


def resample_ratio(parts: Floats, weights: Floats, seed: int = 0) -> Interval | None:
    """95 % interval of Σ parts ÷ Σ weights when groups are drawn anew; None below two groups.

    parts, weights: (G,) float64, weights above 0. 1,000 draws of G groups with replacement; fewer
    above 100,000 groups that differ, never below 200. Equal seeds give equal intervals.
    """
    if len(parts) < 2:
        return None
    # Groups with equal entries need only their common count, which is multinomial as well.
    classes, sizes = np.unique(parts + 1j * weights, return_counts=True)
    num_draws = min(NUM_DRAWS, max(FEWEST_DRAWS, MAX_COUNTS // len(classes)))
    at_once = max(1, COUNTS_AT_ONCE // len(classes))
    generator = np.random.default_rng(seed)
    ratios = []
    for first in range(0, num_draws, at_once):
        size = min(at_once, num_draws - first)
        counts = generator.multinomial(len(parts), sizes / len(parts), size=size).astype(float)
        ratios.append((counts @ classes.real) / (counts @ classes.imag))
    low, high = np.percentile(np.concatenate(ratios), [2.5, 97.5])
    return float(low), float(high)
