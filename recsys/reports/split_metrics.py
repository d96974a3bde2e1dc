"""Predictions of a split → its metrics."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recsys.config.base import BaseConfig, Record
from recsys.errors import RecsysError
from recsys.io.paths import regular_file
from recsys.metrics import METRICS, ReliabilityCurve, compute_reliability, compute_roc
from recsys.metrics.predictions import Interval, check_labels
from recsys.reports.history_lengths import HistoryLengthMetrics, compute_history_lengths
from recsys.reports.slices import SliceMetrics, compute_slices

SLICE_PREFIX, LENGTH_PREFIX, GROUP_COLUMN = "slice/", "history_length/", "group_id"
Array = NDArray[np.generic]


class ReliabilityBin(BaseConfig):
    """Rows of similar probability; `ci95` is the Wilson interval of the positive rate."""

    rows: int
    mean_probability: float
    click_rate: float
    ci95: tuple[float, float]


class SplitMetrics(Record):
    """A split's rows, curves and slices, and what `Metric.figures` says for each of METRICS.

    The keys that are listed are stable; a new metric's are added to them. None: not defined for
    these rows. roc: (false positive rate, true positive rate) points, thinned for drawing.
    """

    rows: int
    positives: int
    auc: float | None = None
    auc_ci95: Interval | None = None
    log_loss: float | None = None
    normalized_entropy: float | None = None
    calibration: float | None = None
    ece: float | None = None
    gauc: float | None = None
    auc_reason: str | None = None
    gauc_ci95: Interval | None = None
    gauc_groups: int | None = None
    gauc_groups_used: int | None = None
    gauc_dropped_share: float | None = None
    roc: tuple[tuple[float, float], ...] = ()
    reliability: tuple[ReliabilityBin, ...] = ()
    slices: dict[str, tuple[SliceMetrics, ...]] = {}
    history_lengths: dict[str, tuple[HistoryLengthMetrics, ...]] = {}


def evaluate_predictions(path: Path) -> SplitMetrics:
    """Measures the columns `label` and `logit`, and `group_id` if there is one.

    Columns `slice/FEATURE` and `history_length/FEATURE` get an AUC for each of their values.

    Args:
        path: Parquet file of predictions, as `recsys evaluate` writes it.

    Returns:
        Every metric of METRICS, with curves and slices.

    Raises:
        RecsysError: the file is missing or not Parquet, a column is missing, there are no rows, a
            logit is not finite, or a label is neither 0 nor 1.
    """
    file = open_predictions(path)
    logits, labels = read_logits(file, path), read_labels(file, path)
    groups = None
    if GROUP_COLUMN in file.schema_arrow.names:
        groups = read(file, GROUP_COLUMN, path)
    metrics = measure(logits, labels, groups)
    slices = {
        name: compute_slices(logits, labels, ids)
        for name, ids in read_all(file, SLICE_PREFIX, path).items()
    }
    history_lengths = {
        name: compute_history_lengths(logits, labels, lengths, groups)
        for name, lengths in without_repeats(read_all(file, LENGTH_PREFIX, path)).items()
    }
    return metrics.model_copy(update={"slices": slices, "history_lengths": history_lengths})


def measure(
    logits: NDArray[np.floating], labels: NDArray[np.bool_], groups: Array | None = None
) -> SplitMetrics:
    """The metrics and curves of all rows."""
    figures: dict[str, Any] = {}
    for metric in METRICS.values():
        figures |= metric.figures(logits, labels, groups)
    roc = compute_roc(logits, labels)
    return SplitMetrics(
        rows=len(labels),
        positives=int(np.count_nonzero(labels)),
        roc=tuple(zip(*(rate.round(6).tolist() for rate in roc), strict=True)) if roc else (),
        reliability=to_bins(compute_reliability(logits, labels)),
        **figures,
    )


def to_bins(curve: ReliabilityCurve) -> tuple[ReliabilityBin, ...]:
    columns = (curve.rows, curve.mean_probability, curve.click_rate, curve.low, curve.high)
    return tuple(
        ReliabilityBin(rows=rows, mean_probability=mean, click_rate=rate, ci95=(low, high))
        for rows, mean, rate, low, high in zip(*(c.tolist() for c in columns), strict=True)
    )


def open_predictions(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(regular_file(path))
    except FileNotFoundError:
        raise RecsysError(
            "predictions not found",
            where=path,
            fix="run `recsys evaluate RUN --split SPLIT`, which writes them",
        ) from None
    except (OSError, pa.ArrowInvalid) as error:
        raise RecsysError(
            "the predictions cannot be read", where=path, expected="a whole Parquet file", got=error
        ) from None


def read(file: pq.ParquetFile, column: str, path: Path) -> Array:
    names = file.schema_arrow.names
    if column not in names:
        raise RecsysError(
            f"the predictions have no column {column!r}", where=path, got=", ".join(names)
        )
    return file.read(columns=[column])[column].to_numpy()


def read_all(file: pq.ParquetFile, prefix: str, path: Path) -> dict[str, NDArray[np.integer]]:
    """The columns whose names start with the prefix, by the rest of the name."""
    names = [name for name in file.schema_arrow.names if name.startswith(prefix)]
    return {name.removeprefix(prefix): read_ids(file, name, path) for name in names}


def without_repeats(columns: dict[str, NDArray[np.integer]]) -> dict[str, NDArray[np.integer]]:
    """The first of equal columns: items and categories of one history have equal lengths."""
    kept: dict[str, NDArray[np.integer]] = {}
    for name, column in columns.items():
        if not any(np.array_equal(column, other) for other in kept.values()):
            kept[name] = column
    return kept


def read_ids(file: pq.ParquetFile, column: str, path: Path) -> NDArray[np.integer]:
    ids = read(file, column, path)
    if not np.issubdtype(ids.dtype, np.integer):
        raise RecsysError(
            "invalid ids", where=f"{path}: {column}", expected="integers", got=ids.dtype
        )
    return ids.astype(np.int64, copy=False)


def read_labels(file: pq.ParquetFile, path: Path) -> NDArray[np.bool_]:
    labels = read(file, "label", path)
    if len(labels) == 0:
        raise RecsysError("the predictions have no rows", where=path)
    return check_labels(labels)


def read_logits(file: pq.ParquetFile, path: Path) -> NDArray[np.floating]:
    logits: NDArray[np.floating] = np.asarray(read(file, "logit", path), dtype=np.float32)
    wrong = ~np.isfinite(logits)
    if wrong.any():
        raise RecsysError(
            "some predictions are NaN or infinite",
            where=f"{path}: row {int(wrong.argmax())} is the first",
            expected="a finite logit in every row",
            got=f"{int(np.count_nonzero(wrong))} of {len(logits)} rows",
            fix="the training diverged: lower the learning rate or look for NaN in the inputs",
        )
    return logits
