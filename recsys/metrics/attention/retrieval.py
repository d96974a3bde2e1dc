"""Retrieval quality: does the search stage find the behaviors most informative of the label?

N. Feng et al., "Long-sequence recommendation models need decoupled embeddings" (DARE), ICLR 2025,
§4.3: NDCG of the retrieved behaviors with mutual information as the gain.
"""

from typing import Annotated

import numpy as np
from pydantic import Field, NonNegativeInt

from recsys.config.base import BaseConfig
from recsys.errors import RecsysError
from recsys.metrics.attention.behaviors import Behaviors
from recsys.metrics.attention.relevance import Relevance
from recsys.metrics.predictions import Booleans, Floats, Ints


class SupportRule(BaseConfig):
    """Which rows are measured: their relevance must come from enough counted rows.

    The defaults are those of the authors' evaluation (20 of 200 behaviors without support).

    Attributes:
        min_target_rows: rows that a target needs.
        min_count: positive rows, and negative rows, that support a behavior of a target and rank.
        max_unsupported: largest share of a row's behaviors that may lack support.
    """

    min_target_rows: NonNegativeInt = 700
    min_count: NonNegativeInt = 50
    max_unsupported: Annotated[float, Field(ge=0, le=1)] = 0.1


class RetrievalQuality(BaseConfig):
    """NDCG of the K retrieved behaviors; the gain is the information with the label.

    Attributes:
        ndcg: mean over rows, 1 for the most relevant behaviors in their order; None without rows.
        most_recent: NDCG of the last K behaviors.
        random: expected NDCG of K behaviors drawn at random.
        rows: with a history.
        rows_used: rows minus rare_target_rows and unsupported_rows, which the rule leaves out.
    """

    k: int
    ndcg: float | None
    most_recent: float | None
    random: float | None
    rows: int
    rows_used: int
    rare_target_rows: int
    unsupported_rows: int
    rule: SupportRule


def compute_retrieval_quality(
    relevance: Relevance,
    behaviors: Behaviors,
    retrieved: Ints,
    rule: SupportRule | None = None,
) -> RetrievalQuality:
    """NDCG of each row's retrieved behaviors, with the information as the gain.

    Args:
        relevance: counts that include every cell of `behaviors`.
        behaviors: n rows with histories.
        retrieved: (n, K) ranks, best first, 1 = the most recent, 0 = none.
        rule: rows that are measured; None: `SupportRule()`.

    Returns:
        Means over the measured rows; the ideal of a history shorter than K is the whole history.

    Raises:
        RecsysError: `retrieved` does not match the histories.
    """
    check_retrieved(behaviors, retrieved)
    rule, k = rule or SupportRule(), retrieved.shape[1]
    evidence = relevance.evidence(behaviors.targets[behaviors.rows], behaviors.ids, behaviors.ranks)
    has_history = behaviors.lengths > 0
    is_rare = relevance.target_rows()[behaviors.targets] < rule.min_target_rows
    lacking = row_sums(behaviors, (evidence.support < rule.min_count).astype(np.float64))
    is_weak = lacking > rule.max_unsupported * behaviors.lengths
    used = has_history & ~is_rare & ~is_weak
    information = evidence.information
    ideal = ideal_gain(behaviors, information, k)
    return RetrievalQuality(
        k=k,
        ndcg=mean_share(retrieved_gain(behaviors, information, retrieved), ideal, used),
        most_recent=mean_share(most_recent_gain(behaviors, information, k), ideal, used),
        random=mean_share(random_gain(behaviors, information, k), ideal, used),
        rows=int(has_history.sum()),
        rows_used=int(used.sum()),
        rare_target_rows=int((has_history & is_rare).sum()),
        unsupported_rows=int((has_history & ~is_rare & is_weak).sum()),
        rule=rule,
    )


def check_retrieved(behaviors: Behaviors, retrieved: Ints) -> None:
    fits = retrieved.ndim == 2 and len(retrieved) == len(behaviors.lengths)
    if not fits or (retrieved > behaviors.lengths[:, None]).any() or (retrieved < 0).any():
        raise RecsysError(
            "the retrieved ranks do not match the histories",
            expected=f"({len(behaviors.lengths)}, K) ranks from 1 to the row's length, 0 for none",
            got=f"shape {retrieved.shape}, ranks up to {retrieved.max(initial=0)}",
        )


def discounts(places: Ints) -> Floats:
    """1 ÷ log₂(place + 2), places from 0."""
    return np.asarray(1 / np.log2(places + 2), dtype=np.float64)


def row_sums(behaviors: Behaviors, values: Floats) -> Floats:
    sums: Floats = np.bincount(behaviors.rows, values, len(behaviors.lengths)).astype(np.float64)
    return sums


def retrieved_gain(behaviors: Behaviors, information: Floats, retrieved: Ints) -> Floats:
    is_one = retrieved > 0
    places = (behaviors.ends[:, None] - retrieved)[is_one]
    gains = np.zeros(retrieved.shape)
    gains[is_one] = information[places]
    found: Floats = gains @ discounts(np.arange(retrieved.shape[1]))
    return found


def ideal_gain(behaviors: Behaviors, information: Floats, k: int) -> Floats:
    order, places = behaviors.order_by(information)
    return row_sums(behaviors, np.where(places < k, information[order] * discounts(places), 0.0))


def most_recent_gain(behaviors: Behaviors, information: Floats, k: int) -> Floats:
    places = behaviors.ranks - 1
    return row_sums(behaviors, np.where(places < k, information * discounts(places), 0.0))


def random_gain(behaviors: Behaviors, information: Floats, k: int) -> Floats:
    """Expected gain of a random choice: the row's mean relevance at each position."""
    means = row_sums(behaviors, information) / np.maximum(behaviors.lengths, 1)
    so_far = np.concatenate(([0.0], np.cumsum(discounts(np.arange(k)))))
    return means * so_far[np.minimum(behaviors.lengths, k)]


def mean_share(gains: Floats, ideal: Floats, used: Booleans) -> float | None:
    return float((gains[used] / ideal[used]).mean()) if used.any() else None
