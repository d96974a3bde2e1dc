"""Maps of pairs: the information of behaviors about the label, and their attention weights."""

import numpy as np
from scipy.stats import pearsonr, spearmanr

from recsys.config.base import BaseConfig
from recsys.metrics import Relevance
from recsys.metrics.attention.by_rank import compute_cell_means
from recsys.metrics.predictions import Floats, Ints
from recsys.reports.attention.sampled import SampledPair

NUM_VALUES, NUM_RANKS = 20, 10


class MapLabel(BaseConfig):
    """A row or a column of a map: an id with its raw value if that is known, or a rank."""

    id: int
    value: str | None = None


class AttentionMap(BaseConfig):
    """Information with the label, in bits, and the model's mean weight, cell by cell.

    rows: categories' map: targets, positions' map: behaviors. columns: behaviors or ranks.
    weight is None if the sample has no such behavior. correlation: Pearson's, rank_correlation:
    Spearman's, both over the other cells; None if one side is constant.
    """

    rows: tuple[MapLabel, ...]
    columns: tuple[MapLabel, ...]
    information: tuple[tuple[float, ...], ...]
    weight: tuple[tuple[float | None, ...], ...]
    correlation: float | None
    rank_correlation: float | None


def most_frequent(ids: Ints) -> Ints:
    """At most 20 ids, most frequent first, without id 0, which represents many values."""
    values, counts = np.unique(ids[ids > 0], return_counts=True)
    chosen: Ints = values[np.argsort(-counts, kind="stable")[:NUM_VALUES]]
    return chosen


def grid(pair: SampledPair, targets: Ints, behaviors: Ints) -> tuple[Ints, Ints, Ints]:
    """Cells (target, behavior, rank) of a map, flat; ranks 1 to 10, or as many as there are."""
    ranks = np.arange(1, 1 + min(NUM_RANKS, int(pair.behaviors.lengths.max(initial=1))))
    axes = np.meshgrid(targets, behaviors, ranks, indexing="ij")
    first, second, third = (axis.ravel() for axis in axes)
    return first, second, third


def map_categories(
    relevance: Relevance, pair: SampledPair, ids: Ints, names: dict[int | None, str]
) -> AttentionMap:
    """Target by behavior, each the mean over the ranks."""
    shape = (len(ids), len(ids))
    information = relevance.evidence(*grid(pair, ids, ids)).information
    rows = pair.behaviors
    at_target, at_id = place_in(ids, rows.targets[rows.rows]), place_in(ids, rows.ids)
    chosen = (at_target >= 0) & (at_id >= 0) & (rows.ranks <= NUM_RANKS)
    weight, _ = compute_cell_means(pair.weights[chosen], at_target[chosen], at_id[chosen], shape)
    labels = tuple(label(number, names) for number in ids)
    return make_map(labels, labels, information.reshape(*shape, -1).mean(axis=2), weight)


def map_positions(
    relevance: Relevance, pair: SampledPair, target: int, ids: Ints, names: dict[int | None, str]
) -> AttentionMap:
    """Behavior by rank, for one target."""
    cells = grid(pair, np.array([target]), ids)
    information = relevance.evidence(*cells).information.reshape(len(ids), -1)
    rows = pair.behaviors
    at_id = place_in(ids, rows.ids)
    chosen = (rows.targets[rows.rows] == target) & (at_id >= 0) & (rows.ranks <= NUM_RANKS)
    at_rank = rows.ranks[chosen] - 1
    weight, _ = compute_cell_means(pair.weights[chosen], at_id[chosen], at_rank, information.shape)
    labels = tuple(label(number, names) for number in ids)
    columns = tuple(MapLabel(id=rank + 1) for rank in range(information.shape[1]))
    return make_map(labels, columns, information, weight)


def place_in(ids: Ints, values: Ints) -> Ints:
    """Index of each value in the distinct ids; -1 if it is not among them."""
    order = np.argsort(ids)
    at = np.minimum(np.searchsorted(ids, values, sorter=order), len(ids) - 1)
    places: Ints = np.where(ids[order[at]] == values, order[at], -1)
    return places


def label(number: int, names: dict[int | None, str]) -> MapLabel:
    return MapLabel(id=int(number), value=names.get(int(number)))


def make_map(
    rows: tuple[MapLabel, ...], columns: tuple[MapLabel, ...], information: Floats, weight: Floats
) -> AttentionMap:
    known = ~np.isnan(weight)
    both = information[known], weight[known]
    varies = all(len(np.unique(side)) > 1 for side in both)
    return AttentionMap(
        rows=rows,
        columns=columns,
        information=tuple(map(tuple, information.tolist())),
        weight=tuple(
            tuple(None if np.isnan(cell) else cell for cell in line) for line in weight.tolist()
        ),
        correlation=float(pearsonr(*both).statistic) if varies else None,
        rank_correlation=float(spearmanr(*both).statistic) if varies else None,
    )
