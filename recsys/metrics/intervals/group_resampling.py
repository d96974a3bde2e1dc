"""Bootstrap intervals over groups: rows of a user are dependent, so users are resampled.

B. Efron, R. Tibshirani, "An introduction to the bootstrap" (1993), §13.3: percentile interval.
"""

import numpy as np

from recsys.metrics.predictions import Floats, Interval

NUM_DRAWS, FEWEST_DRAWS = 1000, 200
MAX_COUNTS = 100_000_000  # random numbers in total, about six seconds
COUNTS_AT_ONCE = 4_000_000


def resample_ratio(parts: Floats, weights: Floats, seed: int = 0) -> Interval | None:
    """95 % percentile interval of Σ parts ÷ Σ weights over resampled groups.

    Args:
        parts: (G,) float64.
        weights: (G,) float64, above 0.
        seed: equal seeds give equal intervals.

    Returns:
        The interval of 1,000 draws of G groups with replacement (fewer, but at least 200, for more
        than 100,000 distinct groups); None with fewer than two groups.
    """
    if len(parts) < 2:
        return None
    # Groups with equal entries need only their total count, which is multinomial as well.
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
