"""The picture of `embedding_budgets`: test AUC against bytes, a line for each method."""

import statistics
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.quality.budget_methods import FULL, METHODS, SEARCHES

SHARE_TICKS = (0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0)
COLORS = dict(zip((*METHODS, *SEARCHES), mpl.colormaps["tab20"].colors, strict=False))
# text stays text and the same runs give the same bytes
STYLE = {"svg.fonttype": "none", "svg.hashsalt": "recsys", "font.family": "sans-serif"}


class Point:
    """A method's runs at one share: mean bytes and AUC, and the AUC's standard deviation."""

    def __init__(self, runs: Sequence[dict]) -> None:
        aucs = [run["test_auc"] for run in runs]
        self.bytes = statistics.mean(run["serve_bytes"] for run in runs)
        self.auc = statistics.mean(aucs)
        self.std = statistics.stdev(aucs) if len(aucs) > 1 else 0.0


def write_picture(runs: Sequence[dict], full_bytes: int, path: Path) -> None:
    """Two panels: all points, and the upper part, which most methods share."""
    lines = points_of(runs)
    full = Point([r for r in runs if (r["method"], r["share"]) == (FULL, 1.0)])
    aucs = [point.auc for points in lines.values() for point in points]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10, 9), layout="constrained")
        whole, upper = figure.subplots(2)
        for axes in (whole, upper):
            draw(axes, lines, full, full_bytes)
        whole.set_title(f"{runs[0]['model']}, Criteo sample: test AUC against embedding bytes")
        whole.set_ylim(min(aucs) - 0.003, max(aucs) + 0.003)
        upper.set_ylim(max(min(aucs) - 0.003, full.auc - 0.009), full.auc + 0.004)
        upper.set_title("the upper part, enlarged; bars: ± one standard deviation of 3 seeds")
        whole.legend(loc="upper left", bbox_to_anchor=(1.01, 1))
        figure.savefig(path, format="svg", metadata={"Date": None})


def points_of(runs: Sequence[dict]) -> dict[str, list[Point]]:
    """Method → its points by bytes; one point if two shares chose the same config."""
    lines = {}
    for method in (*METHODS, *SEARCHES):
        of_share: dict[float, list[dict]] = {}
        for run in runs:
            if run["method"] == method and "test_auc" in run:
                of_share.setdefault(run["share"], []).append(run)
        points = [
            Point(found)
            for found in of_share.values()
            if not all("same_as_share" in run for run in found)
        ]
        if points:
            lines[method] = sorted(points, key=lambda point: point.bytes)
    return lines


def draw(axes: Axes, lines: dict[str, list[Point]], full: Point, full_bytes: int) -> None:
    axes.axhline(full.auc, color="black", linestyle="--", linewidth=1, label="full table")
    for method, points in lines.items():
        axes.errorbar(
            [point.bytes for point in points],
            [point.auc for point in points],
            yerr=[point.std for point in points],
            color=COLORS[method],
            marker="o",
            markersize=4,
            label=method,
        )
    axes.set_xscale("log")
    axes.set_xlim(0.006 * full_bytes, 1.25 * full_bytes)
    ticks = [share * full_bytes for share in SHARE_TICKS]
    axes.set_xticks(
        ticks,
        [f"{s:.0%}\n{t / 1e6:.2g} MB" for s, t in zip(SHARE_TICKS, ticks, strict=True)],
    )
    axes.set_xticks([], minor=True)
    axes.set_xlabel("share of the full tables (log)")
    axes.set_ylabel("AUC")
    axes.grid(color="#e1e6eb")
