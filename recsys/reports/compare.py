"""Paired tests of two runs on the same rows."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from recsys.errors import RecsysError
from recsys.metrics import PairedAucTest, PairedGroupedAuc, compare_aucs, compare_grouped_aucs
from recsys.reports.split_metrics import (
    GROUP_COLUMN,
    open_predictions,
    read,
    read_labels,
    read_logits,
)


def compare_runs(run_a: Path, run_b: Path, split: str = "test") -> PairedAucTest:
    """DeLong's paired test on both runs' predictions.

    Args:
        run_a: run folder with predictions of `split`.
        run_b: the same of the other run.
        split: name of the split.

    Returns:
        The test of the difference, AUC of b - AUC of a.

    Raises:
        RecsysError: predictions are missing, or the runs have not scored the same rows (by their
            labels).
    """
    paths, files = open_pair(run_a, run_b, split)
    logits_a, logits_b = (read_logits(f, path) for f, path in zip(files, paths, strict=True))
    return compare_aucs(logits_a, logits_b, read_labels(files[0], paths[0]))


def describe_test(test: PairedAucTest) -> str:
    """The difference with its interval and p-value, as one line."""
    difference = f"difference {test.difference:+.5f}"
    if test.ci95 is None or test.p_value is None:
        return f"{difference}; no test: {test.reason}"
    low, high = test.ci95
    return f"{difference} (95 % interval {low:+.5f} to {high:+.5f}), p = {test.p_value:.3g}"


def compare_runs_by_group(run_a: Path, run_b: Path, split: str = "test") -> PairedGroupedAuc | None:
    """As `compare_runs` for GAUC, with a bootstrap interval over the groups.

    None if the dataset has no groups, or fewer than two groups have both classes.
    """
    paths, files = open_pair(run_a, run_b, split)
    if any(GROUP_COLUMN not in file.schema_arrow.names for file in files):
        return None
    groups, groups_b = (read(f, GROUP_COLUMN, path) for f, path in zip(files, paths, strict=True))
    if not np.array_equal(groups, groups_b):
        refuse_other_rows(paths, "equal groups in equal order", "other groups")
    logits_a, logits_b = (read_logits(f, path) for f, path in zip(files, paths, strict=True))
    return compare_grouped_aucs(logits_a, logits_b, read_labels(files[0], paths[0]), groups)


def open_pair(run_a: Path, run_b: Path, split: str) -> tuple[list[Path], list[pq.ParquetFile]]:
    """Both runs' predictions of one split; refuses unequal labels."""
    paths = [run / "predictions" / f"{split}.parquet" for run in (run_a, run_b)]
    files = [open_predictions(path) for path in paths]
    labels, labels_b = (read_labels(file, path) for file, path in zip(files, paths, strict=True))
    if not np.array_equal(labels, labels_b):
        got = f"{len(labels)} and {len(labels_b)} rows"
        refuse_other_rows(paths, "equal labels in equal order", got)
    return paths, files


def refuse_other_rows(paths: list[Path], expected: str, got: str) -> None:
    raise RecsysError(
        "the two runs have not scored the same rows",
        where=f"{paths[0]} and {paths[1]}",
        expected=expected,
        got=got,
        fix="evaluate both runs on the same dataset and split",
    )
