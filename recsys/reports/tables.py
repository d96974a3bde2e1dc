"""The page's tables: metrics by split, AUC by value with intervals, bytes by feature."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from recsys.embeddings.records import EmbeddingBytes, FeatureBytes
from recsys.metrics import METRICS, Metric
from recsys.reports.contents import Report
from recsys.reports.history_lengths import HistoryLengthMetrics
from recsys.reports.slices import SliceMetrics
from recsys.reports.text import fixed, interval, sentence, size

MAX_FEATURES = 60
WIDEST_INTERVAL = 0.25  # wider ones are clipped at the edge of the strip


@dataclass(frozen=True)
class Strip:
    """A horizontal axis that all rows share; positions are in percent of its width."""

    low: float
    high: float

    def at(self, value: float) -> float:
        return round(100 * min(1.0, max(0.0, (value - self.low) / (self.high - self.low))), 2)


@dataclass(frozen=True)
class MetricTable:
    """One metric on each split, as text; `notes` are about the main split.

    intervals: empty if no split has one.
    """

    title: str
    definition: str
    notes: tuple[str, ...]
    values: dict[str, str]
    intervals: dict[str, str]


@dataclass(frozen=True)
class SliceTable:
    """AUC by value of one feature."""

    feature: str
    title: str
    rows: tuple[SliceMetrics, ...]
    has_names: bool


@dataclass(frozen=True)
class HistoryLengthTable:
    """AUC by the length of one history."""

    feature: str
    title: str
    rows: tuple[HistoryLengthMetrics, ...]
    strip: Strip | None


@dataclass(frozen=True)
class BytesTable:
    """Features by bytes to serve, largest first; `rest`: number of those left out of the page.

    `other_bytes`: of projections, masks and indices, which are not rows of tables.
    """

    title: str
    rows: tuple[tuple[str, FeatureBytes], ...]
    rest: int
    rest_bytes: int
    largest: int
    unit: str
    unit_bytes: int
    is_shared: bool
    other_bytes: int


def tabulate_metrics(report: Report) -> list[MetricTable]:
    """The metrics of the list; those of groups only if a split has groups."""
    splits = {name: split.model_dump() for name, split in report.splits.items()}
    tables = []
    for metric in METRICS.values():
        keys = (metric.name, f"{metric.name}_ci95", f"{metric.name}_groups")
        values, intervals, groups = ({n: s.get(key) for n, s in splits.items()} for key in keys)
        if metric.needs_groups and not any([*values.values(), *groups.values()]):
            continue
        has_intervals = any(intervals.values())
        tables.append(
            MetricTable(
                title=sentence(metric.title),
                definition=metric.definition,
                notes=metric_notes(metric, splits[report.main_split]),
                values={n: fixed(value, metric.digits) for n, value in values.items()},
                intervals={n: interval(ci) for n, ci in intervals.items() if has_intervals},
            )
        )
    return tables


def metric_notes(metric: Metric, figures: Mapping[str, Any]) -> tuple[str, ...]:
    """The lines below a value: why there is none, or its interval and its note."""
    reason, ci95 = (figures.get(f"{metric.name}_{key}") for key in ("reason", "ci95"))
    if reason is not None:
        return (str(reason),)
    note = metric.note if isinstance(metric.note, str) else metric.note(figures)
    return tuple(filter(None, (ci95 and f"95 %: {interval(ci95)}", note)))


def strip_for(
    measured: Iterable[SliceMetrics | HistoryLengthMetrics], overall: float | None
) -> Strip | None:
    """One axis for all intervals, so that they can be compared."""
    known = [(each.auc, each.auc_ci95) for each in measured if each.auc_ci95]
    if not known or overall is None:
        return None
    shown = [auc for auc, _ in known if auc is not None]
    for _, ci in known:
        if ci[1] - ci[0] <= WIDEST_INTERVAL:
            shown += ci
    low, high = min(overall, *shown), max(overall, *shown)
    air = (high - low) * 0.05 or 0.01
    return Strip(low - air, high + air)


def tabulate_history_lengths(
    lengths: Mapping[str, tuple[HistoryLengthMetrics, ...]], overall: float | None
) -> list[HistoryLengthTable]:
    return [
        HistoryLengthTable(
            feature, history_length_title(feature, rows), rows, strip_for(rows, overall)
        )
        for feature, rows in lengths.items()
    ]


def history_length_title(feature: str, rows: tuple[HistoryLengthMetrics, ...]) -> str:
    known = [row for row in rows if row.auc_ci95 is not None]
    if len(known) < 2:
        return f"{feature}: AUC by the length of the history"
    first, last = (f"{row.auc:.3f} with {row.behaviors}" for row in (known[0], known[-1]))
    return f"{feature}: AUC {first} behaviors, {last}"


def tabulate_slices(slices: dict[str, tuple[SliceMetrics, ...]]) -> list[SliceTable]:
    return [
        SliceTable(
            feature, slice_title(feature, rows), rows, any(r.value is not None for r in rows)
        )
        for feature, rows in slices.items()
    ]


def slice_title(feature: str, rows: tuple[SliceMetrics, ...]) -> str:
    aucs = [row.auc for row in rows if row.auc is not None and row.id is not None]
    if len(aucs) < 2:
        return f"{feature}: AUC by value"
    return f"{feature}: AUC by value, {min(aucs):.3f} to {max(aucs):.3f}"


def tabulate_bytes(embeddings: EmbeddingBytes) -> BytesTable:
    rows = sorted(embeddings.features.items(), key=lambda item: (-item[1].serve_bytes, item[0]))
    shown, rest = rows[:MAX_FEATURES], rows[MAX_FEATURES:]
    largest = max((max(f.train_bytes, f.serve_bytes) for _, f in shown), default=1) or 1
    unit, unit_bytes = ("MB", 10**6) if largest >= 10**9 else ("kB", 10**3)
    return BytesTable(
        title=bytes_title(rows, embeddings.serve_bytes),
        rows=tuple(shown),
        rest=len(rest),
        rest_bytes=sum(feature.serve_bytes for _, feature in rest),
        largest=largest,
        unit=unit,
        unit_bytes=unit_bytes,
        is_shared=any(feature.serve_bytes == 0 for _, feature in rows),
        other_bytes=sum(
            feature.parameter_bytes + feature.projection_bytes + feature.buffer_bytes
            for _, feature in rows
        ),
    )


def bytes_title(rows: list[tuple[str, FeatureBytes]], serve_bytes: int) -> str:
    total = sum(feature.serve_bytes for _, feature in rows)
    if total == 0:
        return "There are no embedding tables"
    running = [*accumulate(feature.serve_bytes for _, feature in rows)]
    few = 1 + next(k for k, so_far in enumerate(running) if so_far >= 0.8 * total)
    verb = "holds" if few == 1 else "hold"
    share = f"{100 * running[few - 1] / total:.0f} %"
    return f"{few} of {len(rows)} features {verb} {share} of the {size(serve_bytes)} to serve"
