"""Report → one self-contained HTML page, without scripts and network, printable on A4."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from recsys.metrics import METRICS
from recsys.reports import text
from recsys.reports.attention.figures import draw_attention
from recsys.reports.charts.figures import (
    Figure,
    draw_reliability,
    draw_roc,
    draw_train_loss,
    draw_validations,
)
from recsys.reports.contents import Report
from recsys.reports.tables import (
    strip_for,
    tabulate_bytes,
    tabulate_history_lengths,
    tabulate_metrics,
    tabulate_slices,
)

FILTERS = ("fixed", "count", "percent", "interval", "size", "short")


def render_page(report: Report) -> str:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update({name: getattr(text, name) for name in FILTERS})
    main = report.splits[report.main_split]
    return environment.get_template("report.html").render(
        report=report,
        main=main,
        metrics=tabulate_metrics(report),
        figures=draw_figures(report),
        slices=tabulate_slices(main.slices),
        strip=strip_for((entry for rows in main.slices.values() for entry in rows), main.auc),
        attention=[(pair, draw_attention(pair)) for pair in report.attention],
        history_lengths=tabulate_history_lengths(main.history_lengths, main.auc),
        bytes=tabulate_bytes(report.embeddings),
    )


def draw_figures(report: Report) -> list[Figure]:
    main = report.splits[report.main_split]
    figures = [draw_roc(report.main_split, main), draw_reliability(report.main_split, main)]
    curves = report.learning_curves
    last_step = max((curve.step[-1] for curve in curves.values()), default=0.0)
    curves = {name: curve for name, curve in curves.items() if len(curve.step) > 1}
    metric = METRICS.get(report.monitor)
    if metric is not None and f"valid/{metric.name}" in curves:
        figures.append(draw_validations(metric, curves[f"valid/{metric.name}"], last_step))
    if "train/loss" in curves:
        figures.append(draw_train_loss(curves["train/loss"], last_step))
    return [figure for figure in figures if figure is not None]
