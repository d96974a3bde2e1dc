"""Grouped AUC (GAUC): the order within each user or session, which is what a user sees.

H. Zhu et al., "Optimized cost per click in Taobao display advertising", KDD 2017, §4.1.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recsys.errors import RecsysError
from recsys.metrics.intervals.group_resampling import resample_ratio
from recsys.metrics.metric import Measured, Metric
from recsys.metrics.predictions import Booleans, Floats, Interval, Ints, check_predictions

UInt64s = NDArray[np.uint64]
GROUP_BITS = 31


@dataclass(frozen=True)
class GroupedAuc:
    """`value` is None when no group has both classes.

    `dropped_share`: share of the rows in groups of one class, which have no AUC.
    `ci95`: bootstrap over the groups with both classes, 95 % percentile; None with fewer than two
    of them, or if all have the same AUC.
    """

    value: float | None
    ci95: Interval | None
    groups: int
    groups_used: int
    dropped_share: float


@dataclass(frozen=True)
class PairedGroupedAuc:
    """Two models on the same rows: `difference` = gauc_b - gauc_a.

    `ci95`: of the difference; both models' AUCs of a group are resampled together.
    """

    gauc_a: float
    gauc_b: float
    difference: float
    ci95: Interval
    groups: int
    groups_used: int


def compute_grouped_auc(logits: ArrayLike, labels: ArrayLike, group_ids: ArrayLike) -> GroupedAuc:
    """Mean of the groups' exact AUCs, weighted by their rows (impressions).

    One sort of n 64-bit keys (group, logit, label) and nothing per group; about 60 bytes per row.

    Args:
        logits: (n,) scores, compared as float32.
        labels: (n,) 0 or 1, or booleans.
        group_ids: (n,) integers, such as users.

    Returns:
        The GAUC, between 0 and 1, with its interval and the number of groups.

    Raises:
        RecsysError: as `compute_auc`, or `group_ids` are not n integers.

    >>> found = compute_grouped_auc([0.1, 0.9, 0.5, 0.2], [0, 1, 1, 0], [7, 7, 8, 8])
    >>> found.value, found.groups_used
    (1.0, 2)
    """
    aucs, rows = measure_groups(logits, labels, group_ids)
    used = ~np.isnan(aucs)
    num_used = int(np.count_nonzero(used))
    dropped = 1 - float(rows[used].sum() / rows.sum())
    if num_used == 0:
        return GroupedAuc(None, None, len(rows), 0, dropped)
    weights, parts = rows[used].astype(np.float64), rows[used] * aucs[used]
    value = float(parts.sum() / weights.sum())
    # equal groups, such as all of AUC 1, say nothing about how much groups differ
    ci95 = resample_ratio(parts, weights) if np.ptp(aucs[used]) > 0 else None
    return GroupedAuc(value, ci95, len(rows), num_used, dropped)


def mean_grouped_auc(logits: ArrayLike, labels: ArrayLike, group_ids: ArrayLike) -> float | None:
    """The value of `compute_grouped_auc` alone, without resampling for an interval."""
    aucs, rows = measure_groups(logits, labels, group_ids)
    used = ~np.isnan(aucs)
    return float((rows * aucs)[used].sum() / rows[used].sum()) if used.any() else None


def compare_grouped_aucs(
    logits_a: ArrayLike, logits_b: ArrayLike, labels: ArrayLike, group_ids: ArrayLike
) -> PairedGroupedAuc | None:
    """GAUC of two models on the same rows; None with fewer than two groups of both classes."""
    aucs_a, rows = measure_groups(logits_a, labels, group_ids)
    aucs_b, _ = measure_groups(logits_b, labels, group_ids)
    used = ~np.isnan(aucs_a)  # in both: the classes are the labels'
    weights = rows[used].astype(np.float64)
    ci95 = resample_ratio(weights * (aucs_b[used] - aucs_a[used]), weights)
    if ci95 is None:
        return None
    gauc_a, gauc_b = (float(weights @ aucs[used] / weights.sum()) for aucs in (aucs_a, aucs_b))
    return PairedGroupedAuc(gauc_a, gauc_b, gauc_b - gauc_a, ci95, len(rows), len(weights))


def measure_groups(
    logits: ArrayLike, labels: ArrayLike, group_ids: ArrayLike
) -> tuple[Floats, Ints]:
    """Exact AUC (NaN for one class) and rows of each group, by ascending group id."""
    scores, clicks = check_predictions(logits, labels)
    groups = np.asarray(group_ids)
    if groups.shape != scores.shape or groups.dtype.kind not in "iu":
        raise RecsysError(
            "invalid group ids",
            expected=f"{len(scores)} integers",
            got=f"{groups.dtype} of shape {groups.shape}",
        )
    keys = pack_keys(scores, clicks, groups)
    keys.sort()
    return aucs_of_groups(keys)


def pack_keys(logits: Floats, labels: Booleans, group_ids: NDArray[np.integer]) -> UInt64s:
    """31 bits group, 32 bits logit in an order that integers understand, 1 bit label."""
    # Adding 0.0 makes -0.0 and 0.0 one number. A negative float's bits grow downwards: flip them.
    bits = (logits.astype(np.float32) + np.float32(0)).view(np.uint32)
    sign = np.uint32(1 << 31)
    ordered = np.where(bits & sign, ~bits, bits | sign)
    keys = dense_groups(group_ids) << np.uint64(33)
    keys |= ordered.astype(np.uint64) << np.uint64(1)
    keys |= labels
    return keys


def dense_groups(group_ids: NDArray[np.integer]) -> UInt64s:
    """Group numbers below 2³¹: offsets if the ids are close together, else ranks."""
    lowest = int(group_ids.min())
    if int(group_ids.max()) - lowest < 1 << GROUP_BITS:
        return group_ids.astype(np.uint64) - np.uint64(lowest % 2**64)  # modulo 2⁶⁴: never wrong
    return np.unique(group_ids, return_inverse=True)[1].astype(np.uint64)


def aucs_of_groups(keys: UInt64s) -> tuple[Floats, Ints]:
    """AUC (NaN for one class) and rows of each group, from ascending keys."""
    clicks = np.cumsum(keys & np.uint64(1), dtype=np.int64)
    keys >>= np.uint64(1)
    ties = starts_of_runs(keys)  # (R,) first row of each run of equal (group, logit)
    rows, positives = per_run(ties, clicks)
    negatives = rows - positives
    keys >>= np.uint64(32)
    first = starts_of_runs(keys[ties])  # (G,) first run of each group
    negatives_before = np.cumsum(negatives) - negatives
    runs_per_group = np.diff(first, append=len(ties))
    negatives_before -= np.repeat(negatives_before[first], runs_per_group)
    twice_wins = np.add.reduceat(positives * (2 * negatives_before + negatives), first)
    group_rows = np.add.reduceat(rows, first)
    group_positives = np.add.reduceat(positives, first)
    pairs = group_positives * (group_rows - group_positives)
    aucs = np.full(len(first), np.nan)
    np.divide(twice_wins, 2 * pairs, out=aucs, where=pairs > 0)
    return aucs, group_rows


def starts_of_runs(keys: UInt64s) -> Ints:
    return np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1])))


def per_run(starts: Ints, clicks: Ints) -> tuple[Ints, Ints]:
    """Rows and positives of each run, from the running sum of the labels."""
    ends = np.append(starts[1:], len(clicks))
    return ends - starts, np.diff(clicks[ends - 1], prepend=0)


def _measure(logits: ArrayLike, labels: ArrayLike, group_ids: ArrayLike) -> Measured:
    found = compute_grouped_auc(logits, labels, group_ids)
    facts = {
        "groups": found.groups,
        "groups_used": found.groups_used,
        "dropped_share": found.dropped_share,
    }
    return Measured(found.value, found.ci95, facts)


def _note(figures: Mapping[str, Any]) -> str:
    used, groups = figures["gauc_groups_used"], figures["gauc_groups"]
    share = 100 * (1 - figures["gauc_dropped_share"])
    return f"of {used:,} of {groups:,} groups, {share:.1f} % of rows"


GAUC = Metric(
    name="gauc",
    title="GAUC",
    definition="Grouped AUC: mean of the AUC within each group, weighted by rows; groups with one "
    "class only are left out. Interval: bootstrap over the groups, 95 % percentile.",
    compute=mean_grouped_auc,
    measure=_measure,
    better="higher",
    requires="a group with rows of both classes",
    note=_note,
    needs_groups=True,
)
