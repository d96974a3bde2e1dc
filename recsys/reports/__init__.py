"""Predictions and a run folder → report.json and report.html."""

from recsys.reports.compare import compare_runs, compare_runs_by_group
from recsys.reports.report import write_report
from recsys.reports.split_metrics import SplitMetrics, evaluate_predictions

__all__ = [
    "SplitMetrics",
    "compare_runs",
    "compare_runs_by_group",
    "evaluate_predictions",
    "write_report",
]
