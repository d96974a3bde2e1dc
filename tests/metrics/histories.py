"""Random histories, and the metrics of them by plain loops over dictionaries."""

from collections import Counter
from math import log2

import numpy as np

from recsys.metrics import Behaviors, Relevance


def make_histories(rows, num_ids, max_length, seed):
    """A click is likelier when the most recent behavior is of the target's category."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, max_length + 1, rows)
    targets, ids = rng.integers(0, num_ids, rows), rng.integers(0, num_ids, lengths.sum())
    last = np.where(lengths > 0, np.append(ids, -1)[np.cumsum(lengths) - 1], -1)
    labels = rng.random(rows) < np.where(last == targets, 0.8, 0.3)
    return Behaviors(targets, ids, lengths, labels)


def split_rows(behaviors, chunks):
    """The same rows in several pieces."""
    for part in np.array_split(np.arange(len(behaviors.targets)), chunks):
        inside = (behaviors.rows >= part[0]) & (behaviors.rows <= part[-1])
        yield Behaviors(
            behaviors.targets[part], behaviors.ids[inside], behaviors.lengths[part],
            behaviors.labels[part],
        )  # fmt: skip


def relevance_of(behaviors, num_ids, chunks=1):
    """What is counted from these rows for all their own cells."""
    relevance = Relevance(num_ids, int(behaviors.lengths.max()))
    targets = behaviors.targets[behaviors.rows]
    relevance.want(targets, behaviors.ids, behaviors.ranks)
    for part in split_rows(behaviors, chunks):
        relevance.add(part)
    return relevance


def histories_of(behaviors):
    """(target, history with the most recent first, label) of each row."""
    histories = np.split(behaviors.ids, behaviors.ends[:-1])
    return [
        (int(target), [int(i) for i in history[::-1]], bool(label))
        for target, history, label in zip(
            behaviors.targets, histories, behaviors.labels, strict=True
        )
    ]


def counts_by_loop(behaviors):
    """(cell, label) and (target, label) → rows."""
    cells, targets = Counter(), Counter()
    for target, history, label in histories_of(behaviors):
        targets[target, label] += 1
        for place, behavior in enumerate(history):
            cells[(target, behavior, place + 1), label] += 1
    return cells, targets


def information_by_loop(behaviors):
    """Cell → bits, from the four joint counts."""
    cells, targets = counts_by_loop(behaviors)
    information = {}
    for cell in {cell for cell, _ in cells}:
        joint = {(1, y): cells[cell, bool(y)] for y in (0, 1)}
        joint |= {(0, y): targets[cell[0], bool(y)] - joint[1, y] for y in (0, 1)}
        joint = {key: count or 1e-5 for key, count in joint.items()}
        total = sum(joint.values())
        information[cell] = sum(
            count / total * log2(
                count * total
                / ((joint[x, 0] + joint[x, 1]) * (joint[0, y] + joint[1, y]))
            )
            for (x, y), count in joint.items()
        )  # fmt: skip
    return information


def ndcg_by_loop(behaviors, retrieved, min_target_rows, min_count, max_unsupported, counted=None):
    """Mean NDCG, and how many rows it is of; relevance from these rows or from `counted` ones."""
    counted = counted or behaviors
    information = information_by_loop(counted)
    cells, targets = counts_by_loop(counted)
    found, k = [], retrieved.shape[1]
    for (target, history, _), ranks in zip(histories_of(behaviors), retrieved, strict=True):
        own = [(target, behavior, place + 1) for place, behavior in enumerate(history)]
        few = [c for c in own if min(cells[c, True], cells[c, False]) < min_count]
        rare = targets[target, True] + targets[target, False] < min_target_rows
        if not own or rare or len(few) > max_unsupported * len(own):
            continue
        gains = [information[c] for c in own]
        ideal = sum(g / log2(i + 2) for i, g in enumerate(sorted(gains, reverse=True)[:k]))
        dcg = sum(gains[rank - 1] / log2(i + 2) for i, rank in enumerate(ranks) if rank)
        found.append(dcg / ideal)
    return (sum(found) / len(found) if found else None), len(found)
