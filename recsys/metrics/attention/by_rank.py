"""Mean attention weight of behaviors by rank, and by cell of a map."""

from dataclasses import dataclass

import numpy as np

from recsys.metrics.predictions import Floats, Ints


@dataclass(frozen=True)
class AttentionByRank:
    """One entry per rank from 1, the most recent; behaviors: number of rows that have the rank.

    share: of the sum of all absolute weights, so that the shares sum to 1 (or are all 0).
    """

    behaviors: Ints
    mean_weight: Floats
    share: Floats


def compute_attention_by_rank(weights: Floats, ranks: Ints) -> AttentionByRank:
    """Means and shares of the weights at each rank.

    Args:
        weights: (L,) of all rows' behaviors, of any sign.
        ranks: (L,), 1 = the most recent.

    Raises:
        ValueError: a weight is not finite.
    """
    if not np.isfinite(weights).all():
        raise ValueError("attention weights must be finite")
    behaviors = np.bincount(ranks)[1:]
    sums = np.bincount(ranks, weights=weights)[1:]
    sizes = np.bincount(ranks, weights=np.abs(weights))[1:]
    mean_weight = sums / np.maximum(behaviors, 1)
    return AttentionByRank(behaviors, mean_weight, sizes / (sizes.sum() or 1.0))


def compute_cell_means(
    values: Floats, rows: Ints, columns: Ints, shape: tuple[int, int]
) -> tuple[Floats, Ints]:
    """Mean of the values of each (row, column), NaN for none; and their count."""
    cells, size = rows * shape[1] + columns, shape[0] * shape[1]
    counts = np.bincount(cells, minlength=size)
    means = np.full(size, np.nan)
    np.divide(np.bincount(cells, values, size), counts, out=means, where=counts > 0)
    return means.reshape(shape), counts.reshape(shape)
