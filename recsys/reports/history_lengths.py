"""AUC by the length of a row's history."""

import numpy as np
from numpy.typing import NDArray

from recsys.config.base import BaseConfig
from recsys.metrics import compute_auc_interval, compute_grouped_auc

FIRST_LENGTHS = (0, 1, 3, 6, 11, 21, 51, 101)  # of each bucket; the last is open


class HistoryLengthMetrics(BaseConfig):
    """The rows whose history has `low` to `high` behaviors; `high` None: or more.

    GAUC is of these rows alone: None without groups, or if no group has both classes.
    """

    low: int
    high: int | None
    rows: int
    positives: int
    auc: float | None
    auc_ci95: tuple[float, float] | None
    gauc: float | None
    gauc_ci95: tuple[float, float] | None
    gauc_groups_used: int | None

    @property
    def behaviors(self) -> str:
        """The range of lengths as text."""
        if self.high is None:
            return f"{self.low} or more"
        return str(self.low) if self.low == self.high else f"{self.low} – {self.high}"


def compute_history_lengths(
    logits: NDArray[np.floating],
    labels: NDArray[np.bool_],
    lengths: NDArray[np.integer],
    group_ids: NDArray[np.generic] | None,
) -> tuple[HistoryLengthMetrics, ...]:
    """Metrics of the buckets that have rows, shortest first."""
    buckets = np.searchsorted(FIRST_LENGTHS, lengths, side="right") - 1
    measured = []
    for number in np.unique(buckets).tolist():
        chosen = buckets == number
        interval = compute_auc_interval(logits[chosen], labels[chosen])
        grouped = None
        if group_ids is not None:
            grouped = compute_grouped_auc(logits[chosen], labels[chosen], group_ids[chosen])
        is_last = number == len(FIRST_LENGTHS) - 1
        measured.append(
            HistoryLengthMetrics(
                low=FIRST_LENGTHS[number],
                high=None if is_last else FIRST_LENGTHS[number + 1] - 1,
                rows=int(np.count_nonzero(chosen)),
                positives=int(np.count_nonzero(labels[chosen])),
                auc=interval.auc,
                auc_ci95=interval.ci95,
                gauc=grouped.value if grouped else None,
                gauc_ci95=grouped.ci95 if grouped else None,
                gauc_groups_used=grouped.groups_used if grouped else None,
            )
        )
    return tuple(measured)
