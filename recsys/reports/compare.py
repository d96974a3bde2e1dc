"""Is the difference between two runs more than chance? Asked of the same rows, in pairs."""

from pathlib import Path

import numpy as np

from recsys.errors import RecsysError
from recsys.metrics import PairedAucTest, compare_aucs
from recsys.reports.split_metrics import open_predictions, read_labels, read_logits


def compare_runs(run_a: Path, run_b: Path, split: str = "test") -> PairedAucTest:
    """DeLong's paired test on both runs' predictions of `split`; difference = AUC of b - AUC of a.

    Raises RecsysError when the two did not predict the same rows (compared by their labels).
    """
    paths = [run / "predictions" / f"{split}.parquet" for run in (run_a, run_b)]
    files = [open_predictions(path) for path in paths]
    labels, labels_b = (read_labels(file, path) for file, path in zip(files, paths, strict=True))
    if not np.array_equal(labels, labels_b):
        raise RecsysError(
            "the two runs did not predict the same rows, so they cannot be compared in pairs",
            where=f"{paths[0]} and {paths[1]}",
            expected="equal labels in equal order",
            got=f"{len(labels)} and {len(labels_b)} rows",
            fix="evaluate both runs on the same data set and split",
        )
    logits_a, logits_b = (read_logits(f, path) for f, path in zip(files, paths, strict=True))
    return compare_aucs(logits_a, logits_b, labels)
