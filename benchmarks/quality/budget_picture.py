"""The picture of `embedding_budgets`: test AUC against bytes, a line for each method."""

import math
import statistics
from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from benchmarks.quality.budget_methods import FULL, METHODS, SEARCHES
from recsys.reports.charts.svg import (
    BOTTOM,
    LEFT,
    RIGHT,
    Axis,
    Chart,
    label,
    round_ticks,
    tick_text,
)

COLORS = (
    "#16202c", "#c0392b", "#2471a3", "#17a2b8", "#e6a09a", "#a9c8e6",
    "#8e44ad", "#b7950b", "#7d6608", "#1e8449", "#58d68d", "#e67e22", "#f5b041",
)  # fmt: skip
STYLE = """
svg { background: #fff; font: 12px "Inter", "Segoe UI", Arial, "Liberation Sans", sans-serif; }
.rule { stroke: #e1e6eb; fill: none; } .axis { stroke: #5b6775; fill: none; }
.reference { stroke: #16202c; stroke-dasharray: 5 4; fill: none; }
.tick, .title, .note { fill: #5b6775; } .big { font-size: 14px; font-weight: 600; }
.end { text-anchor: end; } .middle { text-anchor: middle; }
"""
SHARE_TICKS = (0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0)
WIDTH, HEIGHT, GAP, LEGEND = 760, 380, 34, 250


class Point:
    """A method's runs at one share: mean bytes and AUC, and the AUC's standard deviation."""

    def __init__(self, runs: Sequence[dict]) -> None:
        aucs = [run["test_auc"] for run in runs]
        self.bytes = statistics.mean(run["serve_bytes"] for run in runs)
        self.auc = statistics.mean(aucs)
        self.std = statistics.stdev(aucs) if len(aucs) > 1 else 0.0


class BytesChart(Chart):
    """The x axis is log10 of the bytes; its ticks stand at shares of the full table's."""

    full_bytes = 1

    def axes(self) -> Markup:
        left, right, bottom = LEFT, self.width - RIGHT, self.height - BOTTOM
        parts = []
        for tick in round_ticks(self.y.low, self.y.high):
            _, py = self.at(self.x.low, tick)
            parts.append(Markup('<path class="rule" d="M{} {}H{}"/>').format(left, py, right))
            parts.append(label("tick end", left - 8, py + 4, self.y.text(tick)))
        for share in SHARE_TICKS:
            px, _ = self.at(math.log10(share * self.full_bytes), self.y.low)
            words = f"{share:.0%} · {share * self.full_bytes / 1e6:.2g} MB"
            parts.append(Markup('<path class="axis" d="M{} {}v5"/>').format(px, bottom))
            parts.append(label("tick middle", px, bottom + 18, words))
        parts.append(Markup('<path class="axis" d="M{} {}H{}"/>').format(left, bottom, right))
        parts.append(label("title end", right, self.height - 6, self.x.title))
        return Markup("").join(parts)


def write_picture(runs: Sequence[dict], full_bytes: int, path: Path) -> None:
    """Two panels: all of it, and the upper part that most methods share."""
    lines = points_of(runs)
    full = Point([r for r in runs if (r["method"], r["share"]) == (FULL, 1.0)])
    aucs = [point.auc for points in lines.values() for point in points]
    low, high = min(aucs) - 0.003, max(aucs) + 0.003
    close = max(low, full.auc - 0.009)
    panels = [
        panel(lines, full, full_bytes, (low, high), "all of it"),
        panel(lines, full, full_bytes, (close, full.auc + 0.004), "the upper part, enlarged"),
    ]
    width, height = WIDTH + LEGEND, 2 * HEIGHT + 2 * GAP
    title = f"{runs[0]['model']}, Criteo sample: test AUC against bytes of the embeddings (log)"
    placed = [
        Markup('<svg x="0" y="{}" width="{}" height="{}">{}</svg>').format(
            GAP + i * (HEIGHT + GAP), WIDTH, HEIGHT, each
        )
        for i, each in enumerate(panels)
    ]
    svg = Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {} {}" width="{}" height="{}">'
        "<style>{}</style>{}{}{}</svg>\n"
    ).format(
        width, height, width, height, Markup(STYLE), label("big", LEFT, 20, title),
        Markup("").join(placed), legend(lines),
    )  # fmt: skip
    path.write_text(svg)


def points_of(runs: Sequence[dict]) -> dict[str, list[Point]]:
    """Method → its points by bytes; where two shares chose the same, one of them."""
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


def panel(
    lines: dict[str, list[Point]],
    full: Point,
    full_bytes: int,
    between: tuple[float, float],
    name: str,
) -> Markup:
    x = Axis("share of the full tables", *(math.log10(s * full_bytes) for s in (0.006, 1.25)), str)
    chart = BytesChart(x, Axis("AUC", *between, tick_text(*between)), name, WIDTH, HEIGHT)
    chart.full_bytes = full_bytes
    chart.line([(x.low, full.auc), (x.high, full.auc)], "reference")
    chart.text((x.low, between[1]), name, "note", dy=4)
    for (_, points), color in zip(lines.items(), colors(lines), strict=True):
        shown = [(math.log10(p.bytes), p) for p in points if p.auc - p.std > between[0]]
        path = " ".join("{},{}".format(*chart.at(at, p.auc)) for at, p in shown)
        chart.add('<polyline fill="none" stroke="{}" stroke-width="2" points="{}"/>', color, path)
        for at, point in shown:
            draw(chart, at, point, color)
    return chart.svg()


def draw(chart: Chart, at: float, point: Point, color: str) -> None:
    (px, low), (_, high) = chart.at(at, point.auc - point.std), chart.at(at, point.auc + point.std)
    chart.add('<path stroke="{}" d="M{} {}V{}"/>', color, px, low, high)
    hint = f"{point.bytes:,.0f} bytes: AUC {point.auc:.4f} ± {point.std:.4f}"
    _, py = chart.at(at, point.auc)
    chart.add(
        '<circle cx="{}" cy="{}" r="3.5" fill="{}"><title>{}</title></circle>', px, py, color, hint
    )


def colors(lines: dict[str, list[Point]]) -> list[str]:
    """Each method has one colour in every picture."""
    of = dict(zip((*METHODS, *SEARCHES), COLORS, strict=True))
    return [of[method] for method in lines]


def legend(lines: dict[str, list[Point]]) -> Markup:
    parts = []
    for i, (method, color) in enumerate(zip(lines, colors(lines), strict=True)):
        y = GAP + 30 + 22 * i
        parts.append(
            Markup('<path stroke="{}" stroke-width="3" d="M{} {}h18"/>').format(color, WIDTH, y - 4)
        )
        parts.append(label("", WIDTH + 26, y, method))
    y = GAP + 30 + 22 * len(lines)
    parts.append(Markup('<path class="reference" d="M{} {}h18"/>').format(WIDTH, y - 4))
    parts.append(label("", WIDTH + 26, y, "full table"))
    parts.append(label("note", WIDTH, y + 26, "bars: ± one standard deviation of 3 seeds"))
    return Markup("").join(parts)
