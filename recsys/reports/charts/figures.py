"""The page's charts. Each title states what the chart shows."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from markupsafe import Markup

from recsys.metrics import Metric
from recsys.reports.charts.svg import Axis, Chart, padded, tick_text
from recsys.reports.run_folder import Curve
from recsys.reports.split_metrics import SplitMetrics
from recsys.reports.text import count, percent, sentence, short


@dataclass(frozen=True)
class Figure:
    """A chart with its title and a caption that says how it was made."""

    title: str
    caption: str
    svg: Markup


def rate_text(value: float) -> str:
    return f"{100 * value:.3g} %"


def draw_roc(split: str, metrics: SplitMetrics) -> Figure | None:
    if not metrics.roc or metrics.auc is None:
        return None
    chart = Chart(
        x=Axis("false positive rate", 0, 1, rate_text),
        y=Axis("true positive rate", 0, 1, rate_text),
        label="ROC curve",
    )
    chart.area(metrics.roc, "area")
    chart.line([(0, 0), (1, 1)], "reference")
    chart.line(metrics.roc, "curve")
    chart.text((0.96, 0.06), f"AUC {metrics.auc:.4f}", "big end")
    chart.text((0.5, 0.5), "chance", "note", dy=18)
    return Figure(
        f"A positive ranks above a negative {percent(metrics.auc)} of the time",
        f"ROC on {split}: share of positives found against share of negatives flagged as the "
        "threshold falls. The area below the curve is the AUC.",
        chart.svg(),
    )


def draw_reliability(split: str, metrics: SplitMetrics) -> Figure:
    bins = metrics.reliability
    high = 1.06 * max(max(b.mean_probability, b.ci95[1]) for b in bins)
    chart = Chart(
        x=Axis("mean predicted probability", 0, high, rate_text),
        y=Axis("observed positive rate", 0, high, rate_text),
        label="Reliability curve",
    )
    chart.line([(0, 0), (high, high)], "reference")
    for b in bins:
        chart.interval(b.mean_probability, *b.ci95, style="whisker")
    for b in bins:
        hint = f"{count(b.rows)} rows: predicted {percent(b.mean_probability, 2)}, "
        hint += f"observed {percent(b.click_rate, 2)}"
        chart.dot((b.mean_probability, b.click_rate), "dot", hint)
    chart.text((0.93 * high, 0.93 * high), "predicted = observed", "note end", dy=-12)
    return Figure(
        reliability_title(metrics),
        f"Observed positive rate against mean predicted probability on {split}, in "
        f"{len(bins)} bins of equal mass with 95 % Wilson intervals. Below the line, predictions "
        f"are too high. The mean distance to the line is the ECE, {metrics.ece:.4f}.",
        chart.svg(),
    )


def reliability_title(metrics: SplitMetrics) -> str:
    if metrics.calibration is None:
        return "No positive was observed: calibration is not defined"
    error = metrics.calibration - 1
    if abs(error) < 0.0005:
        return "Predictions are calibrated on average"
    return f"Predictions are {percent(abs(error))} too {'high' if error > 0 else 'low'} on average"


def draw_validations(metric: Metric, curve: Curve, last_step: float) -> Figure:
    best = max(range(len(curve.value)), key=lambda k: metric.goodness(curve.value[k]))
    point = (curve.step[best], curve.value[best])
    chart = step_chart(curve, f"{metric.title} on valid", last_step)
    chart.line(list(zip(curve.step, curve.value, strict=True)), "curve")
    for step, value in zip(curve.step, curve.value, strict=True):
        chart.dot((step, value), "dot faint", f"step {count(step)}: {metric.title} {value:.4f}")
    chart.dot(
        point, "dot", f"best: step {count(point[0])}, {metric.title} {point[1]:.4f}", radius=5
    )
    where = "end" if chart.x.share(point[0]) > 0.8 else "start"
    chart.text(point, f"best {point[1]:.4f}", f"big {where}", dy=-12)
    is_last = best == len(curve.value) - 1
    when = "at the last validation" if is_last else f"at step {count(point[0])}"
    return Figure(
        f"Valid {metric.title} was best {when}",
        f"{sentence(metric.title)} on the valid rows at each of {len(curve.value)} validations, by "
        "training step.",
        chart.svg(),
    )


def draw_train_loss(curve: Curve, last_step: float) -> Figure:
    chart = step_chart(curve, "training loss, nats", last_step)
    chart.line(list(zip(curve.step, curve.value, strict=True)), "curve")
    return Figure(
        train_loss_title(curve.value),
        "Log loss of single training batches without any penalty, against training steps. A long "
        "log is averaged over neighboring points.",
        chart.svg(),
    )


def train_loss_title(values: Sequence[float]) -> str:
    """Compares means, because the loss of single batches is noisy."""
    quarter = len(values) // 4
    if quarter < 2:
        return "Training loss of single batches"
    first, last = fmean(values[:quarter]), fmean(values[-quarter:])
    verb = "fell" if last < first else "rose"
    return (
        f"Training loss {verb} from {first:.3f} to {last:.3f} nats "
        "(means of the first and the last quarter)"
    )


def step_chart(curve: Curve, title: str, last_step: float) -> Chart:
    low, high = padded(curve.value, share=0.12)
    return Chart(
        x=Axis("training steps", 0.0, 1.02 * max(last_step, 1.0), short),
        y=Axis(title, low, high, tick_text(low, high)),
        label=f"{title} against training steps",
        height=260,
    )
