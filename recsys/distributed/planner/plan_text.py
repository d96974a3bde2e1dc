"""A plan as tables on a terminal."""

from collections.abc import Iterator

from rich.console import RenderableType
from rich.markup import escape
from rich.table import Column, Table

from recsys.config.byte_sizes import format_bytes
from recsys.distributed.planner.description import PlanDescription, RankEntry, TableEntry
from recsys.embeddings.records import FeatureBytes

RANKS_SHOWN = 16
NAMES_SHOWN = 3


def render(plan: PlanDescription) -> Iterator[RenderableType]:
    """Tables, ranks, features, totals and assumptions, in reading order."""
    yield _tables(plan)
    yield ""
    yield _ranks(plan)
    yield ""
    yield _features(plan)
    yield from _memory(plan)
    yield ""
    yield _totals(plan)
    yield from (f"[dim]- {escape(line)}[/]" for line in plan.assumptions)


def _tables(plan: PlanDescription) -> Table:
    # in a narrow terminal names are cut, figures are not
    shown = Table(Column("table", overflow="fold"), box=None)
    for title in ("rows × dim", "sharding", "kernel", "ranks"):
        shown.add_column(title, no_wrap=True)
    for title in ("largest shard", "ms/step"):
        shown.add_column(title, justify="right", no_wrap=True)
    for entry in plan.tables:
        shown.add_row(
            escape(_name(entry)),
            f"{entry.num_rows:,} × {entry.dim}",
            entry.sharding,
            entry.kernel,
            _span(entry.ranks),
            _largest_piece(entry),
            f"{entry.step_milliseconds:.3f}",
        )
    return shown


def _largest_piece(entry: TableEntry) -> str:
    """Of the rank that holds most of it."""
    held: dict[int, list[int]] = {}
    for shard in entry.shards:
        device, host = held.setdefault(shard.rank, [0, 0])
        held[shard.rank] = [device + shard.device_bytes, host + shard.host_bytes]
    device, host = max(held.values(), key=sum)
    if device and host:
        return f"{format_bytes(device)} + host {format_bytes(host)}"
    return format_bytes(device or host)


def _ranks(plan: PlanDescription) -> Table:
    shown = Table("rank", box=None)
    for title in ("device", "host", "with buffers", "of limit", "ms/step"):
        shown.add_column(title, justify="right", no_wrap=True)
    for name, entry in _ranks_shown(plan):
        shown.add_row(
            name,
            format_bytes(entry.device_bytes),
            format_bytes(entry.host_bytes),
            format_bytes(entry.planned_bytes),
            f"{entry.planned_bytes / plan.cluster.table_bytes:.0%}",
            f"{entry.step_milliseconds:.3f}",
        )
    return shown


def _ranks_shown(plan: PlanDescription) -> Iterator[tuple[str, RankEntry]]:
    if len(plan.ranks) <= RANKS_SHOWN:
        yield from ((str(entry.rank), entry) for entry in plan.ranks)
        return
    fullest = max(plan.ranks, key=lambda entry: entry.planned_bytes)
    emptiest = min(plan.ranks, key=lambda entry: entry.planned_bytes)
    slowest = max(plan.ranks, key=lambda entry: entry.step_milliseconds)
    for title, entry in (("fullest", fullest), ("emptiest", emptiest), ("slowest", slowest)):
        yield f"{title} ({entry.rank})", entry


def _features(plan: PlanDescription) -> Table:
    shown = Table(Column("feature", overflow="fold"), "method", box=None)
    for title in ("ids", "dim", "train", "serve", "full table"):
        shown.add_column(title, justify="right", no_wrap=True)
    for name, facts in plan.features.items():
        ids, dim = f"{facts.cardinality:,}", str(facts.dim)
        shown.add_row(escape(name), facts.method, ids, dim, *_sizes(facts))
    shown.add_row("all", "", "", "", *_sizes(plan))
    return shown


def _sizes(counted: FeatureBytes | PlanDescription) -> tuple[str, str, str]:
    sizes = (counted.train_bytes, counted.serve_bytes, counted.full_table_bytes)
    return format_bytes(sizes[0]), format_bytes(sizes[1]), format_bytes(sizes[2])


def _memory(plan: PlanDescription) -> Iterator[str]:
    """Bytes relative to full tables, and the feature that a shared table is counted with."""
    if plan.share_of_full_tables is not None:
        yield f"to serve: {plan.share_of_full_tables:.1%} of full tables of the default width"
    for name, table in plan.shared_tables.items():
        more = len(table.readers) - NAMES_SHOWN
        features = ", ".join(table.readers[:NAMES_SHOWN]) + (f" and {more} more" * (more > 0))
        yield escape(
            f"{format_bytes(table.serve_bytes)} of {table.charged_to} is the table {name}, "
            f"which {features} read"
        )


def _totals(plan: PlanDescription) -> str:
    return (
        f"{plan.step_milliseconds:.3f} ms per step for the tables on "
        f"{plan.cluster.world_size} × {plan.cluster.device_type}; time of the slowest rank: "
        f"{plan.time_imbalance:.2f} × the mean; memory of the fullest rank: "
        f"{plan.memory_imbalance:.2f} × the mean"
    )


def _name(entry: TableEntry) -> str:
    """The table, and the features that read it if its name does not say so."""
    if entry.features == (entry.table,):
        return entry.table
    more = len(entry.features) - NAMES_SHOWN
    names = ", ".join(entry.features[:NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
    return f"{entry.table} ({names})"


def _span(ranks: tuple[int, ...]) -> str:
    is_run = len(ranks) > 2 and ranks == tuple(range(ranks[0], ranks[-1] + 1))
    return f"{ranks[0]}–{ranks[-1]}" if is_run else ", ".join(map(str, ranks))
