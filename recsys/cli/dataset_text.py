"""The statistics that `recsys prepare` prints."""

from collections.abc import Iterator

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from recsys.schema import FeatureCounts, JoinCounts, Schema

MAX_FEATURES = 15  # the ones with the largest shares; the others get one line


def describe_statistics(schema: Schema) -> Iterator[RenderableType]:
    """Shares of missing and unseen values, dropped rows and warnings, worst first."""
    if schema.statistics:
        yield _table(schema)
        rest = len(schema.statistics) - MAX_FEATURES
        if rest > 0:
            yield Text(f"and {rest} more features with smaller shares: `statistics` in schema.json")
    for join in schema.joins:
        yield Text(_join_line(join))
    for reason, rows in schema.dropped_rows.items():
        yield Text(f"dropped: {rows:,} rows: {reason}")
    for warning in schema.warnings:
        yield Text(f"warning: {warning}", style="yellow")


def _join_line(join: JoinCounts) -> str:
    matched = (join.rows - join.missing - join.unmatched) / max(join.rows, 1)
    return (
        f"joined {join.table} by {', '.join(join.key)}: {matched:.2%} of {join.rows:,} rows; "
        f"{join.unused:,} of its {join.table_keys:,} keys are in no row"
    )


def _table(schema: Schema) -> Table:
    table = Table(box=None, pad_edge=False, header_style="")
    table.add_column("feature", overflow="ellipsis", no_wrap=True, max_width=30)
    for name in ("missing: train valid test", "rare or unseen: train valid test", "distinct"):
        table.add_column(name, justify="right")
    names = sorted(schema.statistics, key=lambda name: -_worst(schema.statistics[name]))
    for name in names[:MAX_FEATURES]:
        counts = [schema.statistics[name][split] for split in ("train", "valid", "test")]
        missing = [_percent(c.missing, c.values) for c in counts]
        unseen = ["–" if c.distinct is None else _percent(c.unseen, c.values) for c in counts]
        distinct = "–" if counts[0].distinct is None else f"{counts[0].distinct:,}"
        table.add_row(name, "  ".join(missing), "  ".join(unseen), distinct)
    return table


def _worst(splits: dict[str, FeatureCounts]) -> float:
    return max(
        max(counts.unseen, counts.missing or 0) / max(counts.values, 1)
        for counts in splits.values()
    )


def _percent(part: int | None, whole: int) -> str:
    if part is None or not whole:
        return "–"
    return "0" if not part else f"{part / whole:.2%}"
