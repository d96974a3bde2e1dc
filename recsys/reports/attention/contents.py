"""The attention part of a report: weights by rank, and retrieval compared with the labels."""

from pathlib import Path

import numpy as np

from recsys.config.base import BaseConfig
from recsys.metrics import (
    Relevance,
    RetrievalQuality,
    SupportRule,
    compute_attention_by_rank,
    compute_retrieval_quality,
)
from recsys.metrics.predictions import Ints
from recsys.reports.attention.map import (
    AttentionMap,
    MapLabel,
    grid,
    label,
    map_categories,
    map_positions,
    most_frequent,
)
from recsys.reports.attention.relevance_counts import count_rows, shares_vocabulary
from recsys.reports.attention.sampled import SampledPair, read_sample
from recsys.reports.slices import read_names
from recsys.schema import Schema

MAX_RANKS = 200  # listed separately


class RankAttention(BaseConfig):
    """Behaviors of one rank, 1 = the most recent; `rank` None: all ranks not listed.

    share: of the sum of absolute weights of all behaviors.
    """

    rank: int | None
    behaviours: int
    mean_weight: float
    share: float


class PairAttention(BaseConfig):
    """One pair of target and history, from `rows` sampled rows.

    Information is counted from `counted_rows` rows of all splits; there is none without the
    dataset, or if target and history have different vocabularies. categories: the most frequent
    targets against the same behaviors, mean of the ranks 1 to 10. positions: behaviors by rank for
    `positions_target`. retrieval_by_feature: searched by this feature and the ranks alone.
    """

    target: str
    history: str
    rows: int
    behaviours: int
    by_rank: tuple[RankAttention, ...]
    counted_rows: int | None = None
    retrieval: RetrievalQuality | None = None
    retrieval_by_feature: RetrievalQuality | None = None
    categories: AttentionMap | None = None
    positions_target: MapLabel | None = None
    positions: AttentionMap | None = None


def measure_attention(
    path: Path, schema: Schema, dataset_dir: Path | None, rule: SupportRule
) -> tuple[PairAttention, ...]:
    """Every pair of a sample; comparisons with the labels need the dataset."""
    return tuple(measure_pair(pair, schema, dataset_dir, rule) for pair in read_sample(path))


def measure_pair(
    pair: SampledPair, schema: Schema, dataset_dir: Path | None, rule: SupportRule
) -> PairAttention:
    measured = PairAttention(
        target=pair.target,
        history=pair.history,
        rows=len(pair.behaviors.targets),
        behaviours=len(pair.behaviors.ids),
        by_rank=list_ranks(pair),
    )
    if dataset_dir is None or not shares_vocabulary(pair, schema):
        return measured
    return measured.model_copy(update=compare_with_labels(pair, schema, dataset_dir, rule))


def compare_with_labels(
    pair: SampledPair, schema: Schema, dataset_dir: Path, rule: SupportRule
) -> dict[str, object]:
    """Retrieval and maps, from the labels of many rows; maps of targets with enough of them."""
    rows = pair.behaviors
    targets = most_frequent(rows.targets)
    first = targets[:1]
    behaviors = most_frequent(rows.ids[np.isin(rows.targets[rows.rows], first)])
    cells = [grid(pair, targets, targets), grid(pair, first, behaviors)]
    relevance = count_rows(pair, schema, dataset_dir, cells)
    found: dict[str, object] = {
        "counted_rows": int(relevance.target_rows().sum()),
        "retrieval": measure_retrieval(relevance, pair, pair.retrieved, rule),
        "retrieval_by_feature": measure_retrieval(relevance, pair, pair.retrieved_by_feature, rule),
    }
    ids = sorted({*targets.tolist(), *behaviors.tolist()})
    names = read_names(pair.target, ids, schema, dataset_dir)
    has_rows = relevance.target_rows() >= rule.min_target_rows
    if np.count_nonzero(has_rows[targets]) > 1:
        found["categories"] = map_categories(relevance, pair, targets[has_rows[targets]], names)
    if has_rows[first].any() and len(behaviors):
        found["positions_target"] = label(first[0], names)
        found["positions"] = map_positions(relevance, pair, first[0], behaviors, names)
    return found


def list_ranks(pair: SampledPair) -> tuple[RankAttention, ...]:
    found = compute_attention_by_rank(pair.weights, pair.behaviors.ranks)
    columns = (found.behaviors, found.mean_weight, found.share)
    ranks = [
        RankAttention(rank=number, behaviours=count, mean_weight=mean, share=share)
        for number, (count, mean, share) in enumerate(
            zip(*(column[:MAX_RANKS].tolist() for column in columns), strict=True), start=1
        )
    ]
    far = found.behaviors[MAX_RANKS:]
    if len(far):
        mean = float(far @ found.mean_weight[MAX_RANKS:] / far.sum())
        share = float(found.share[MAX_RANKS:].sum())
        ranks.append(
            RankAttention(rank=None, behaviours=int(far.sum()), mean_weight=mean, share=share)
        )
    return tuple(ranks)


def measure_retrieval(
    relevance: Relevance, pair: SampledPair, retrieved: Ints | None, rule: SupportRule
) -> RetrievalQuality | None:
    if retrieved is None:
        return None
    return compute_retrieval_quality(relevance, pair.behaviors, retrieved, rule)
