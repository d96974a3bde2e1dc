"""Events of users in order of time → targets, windows of their histories, negatives, splits."""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from data_pipelines.encoding.hashing import finalize
from data_pipelines.encoding.splits import SplitCodes, group_split
from data_pipelines.encoding.vocabulary import Int64s
from data_pipelines.events.layout import IS_BEHAVIOR, IS_TARGET, ITEM, LABEL, TIME, USER
from data_pipelines.events.negatives import Catalog, draw_negatives, sample_hashes, user_item_keys
from data_pipelines.recipe import Events
from data_pipelines.rules.splits import ByGroup, ByTime, LastItem, LastTwoItems, SplitRule

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class UserEvents:
    """Events sorted by user and time, with the window of each event's history.

    The history of event i is `behaviors[window_start[i] : window_end[i]]`, oldest first.
    """

    frame: pl.DataFrame
    user_index: Int64s  # of each event, from 0
    positions: Int64s  # of each event among those of its user, from 0
    behaviors: Int64s  # the events that histories contain
    window_start: Int64s
    window_end: Int64s
    num_before: (
        Int64s  # the number of behaviors before the event, including those before the window
    )

    @classmethod
    def of(cls, frame: pl.DataFrame, rules: Events) -> "UserEvents":
        """Windows of a sorted frame: behaviors with an earlier time, or in an earlier row."""
        starts = _starts(frame[USER].to_numpy())
        user_index = np.cumsum(starts) - 1
        numbers = np.arange(len(frame))
        first = np.flatnonzero(starts)[user_index]
        window_row = numbers  # the first row that is not before the event
        if TIME in frame.columns and rules.ties == "excluded":
            is_new_time = starts | _starts(frame[TIME].to_numpy())
            window_row = np.maximum.accumulate(np.where(is_new_time, numbers, 0))
        is_behavior = frame[IS_BEHAVIOR].to_numpy()
        before = np.cumsum(is_behavior) - is_behavior
        end = before[window_row]
        return cls(
            frame=frame,
            user_index=user_index,
            positions=numbers - first,
            behaviors=np.flatnonzero(is_behavior),
            window_start=np.maximum(before[first], end - rules.max_length),
            window_end=end,
            num_before=end - before[first],
        )


def _starts(values: NDArray[np.generic]) -> Bools:
    """The mask of values that differ from the one before."""
    starts = np.ones(len(values), np.bool_)
    starts[1:] = values[1:] != values[:-1]
    return starts


def sort_events(frame: pl.DataFrame, rules: Events) -> UserEvents:
    """Sorts by user, time and row of the log, and drops users with too few behaviors."""
    by = [name for name in (USER, TIME) if name in frame.columns]
    frame = frame.sort(by, maintain_order=True)
    if rules.min_events:
        frame = frame.filter(pl.col(IS_BEHAVIOR).sum().over(USER) >= rules.min_events)
    return UserEvents.of(frame, rules)


def make_samples(
    events: UserEvents, rules: Events, split: SplitRule, catalog: Catalog | None
) -> pl.DataFrame:
    """The event, item, label and split of all samples, sorted by split and then in random order.

    The random order mixes the users of a bucket, since adjacent rows are in the same batch.
    """
    targets, codes = choose_targets(events, rules, split)
    users, positions = events.frame[USER].to_numpy()[targets], events.positions[targets]
    per_positive = rules.negatives.per_positive if rules.negatives else 0
    seed = rules.negatives.seed if rules.negatives else 0
    hashes = [sample_hashes(seed, users, positions, n) for n in range(per_positive + 1)]
    labels = np.repeat(np.array([1] + [0] * per_positive, np.int8), len(targets))
    items = events.frame[ITEM].to_numpy()
    drawn = [items[targets]]
    if catalog is None:
        labels = events.frame[LABEL].to_numpy()[targets]
    else:
        own = np.sort(user_item_keys(events.user_index, items))
        of_target = events.user_index[targets]
        drawn += [draw_negatives(h, of_target, own, catalog) for h in hashes[1:]]
    samples = {
        "event": np.tile(targets, per_positive + 1).astype(np.int32),
        "item": np.concatenate(drawn),
        "label": labels,
        "split": np.tile(codes, per_positive + 1),
    }
    order = np.lexsort((np.concatenate(hashes), samples["split"]))
    return pl.DataFrame({name: values[order] for name, values in samples.items()})


def choose_targets(
    events: UserEvents, rules: Events, split: SplitRule
) -> tuple[Int64s, SplitCodes]:
    """The events that become samples, and their splits."""
    has_history = events.num_before >= rules.targets.min_history
    is_target = events.frame[IS_TARGET].to_numpy() & has_history
    eligible = np.flatnonzero(is_target)
    user_index = events.user_index[eligible]
    counts = np.bincount(user_index, minlength=1)
    from_end = np.cumsum(counts)[user_index] - 1 - np.arange(len(eligible))
    held, codes = split_targets(events.frame[eligible], from_end, split)
    steps, rest = np.divmod(from_end - held, rules.targets.every)
    per_user = rules.targets.per_user or len(eligible)
    is_chosen = (from_end < held) | ((rest == 0) & (steps < per_user))
    return eligible[is_chosen], codes[is_chosen]


def split_targets(
    frame: pl.DataFrame, from_end: Int64s, split: SplitRule
) -> tuple[Int64s, SplitCodes]:
    """The number of targets that are held out of each target's user, and the splits of targets."""
    held = np.zeros(len(frame), np.int64)
    match split:
        case LastItem(seed=seed, valid_users=share):
            hashes = finalize(frame[USER].to_numpy().astype(np.uint64))
            held = 1 + group_split(hashes, seed, (1 - share, share, 0.0)).astype(np.int64)
        case LastTwoItems():
            held += 2
        case ByTime(boundaries=boundaries):
            assert boundaries is not None, "set after the log has been read"
            times = frame[TIME].to_numpy()
            return held, np.searchsorted(boundaries, times, side="right").astype(np.uint8)
        case ByGroup(seed=seed, fractions=fractions):
            hashes = finalize(frame[USER].to_numpy().astype(np.uint64))
            return held, group_split(hashes, seed, fractions)
    return held, np.where(from_end < held, 2 - from_end, 0).astype(np.uint8)
