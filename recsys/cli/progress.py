"""Progress of long work: a bar with rate and time left on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

Report = Callable[[str, int, int | None], None]
SECONDS_BETWEEN_LINES = 10.0


class RateColumn(ProgressColumn):
    """Rows per second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed or 0:,.0f} rows/s", style="cyan")


@contextmanager
def progress_report() -> Iterator[Report]:
    """A function (stage, rows done, rows in all or None) that shows how far the work is."""
    if not sys.stderr.isatty():
        yield _plain_report()
        return
    columns = (
        TextColumn("{task.description:<12}"),
        BarColumn(),
        MofNCompleteColumn(),
        RateColumn(),
        TimeRemainingColumn(),
    )
    from rich.console import Console

    with Progress(*columns, console=Console(stderr=True)) as bar:
        tasks: dict[str, int] = {}

        def report(stage: str, done: int, total: int | None) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=total)
            bar.update(tasks[stage], completed=done, total=total)  # type: ignore[arg-type]  # a TaskID is an int

        yield report


def _plain_report() -> Report:
    last_line: dict[str, float] = {}

    def report(stage: str, done: int, total: int | None) -> None:
        now = time.monotonic()
        is_last = total is not None and done >= total
        if not is_last and now - last_line.get(stage, now - 3600) < SECONDS_BETWEEN_LINES:
            return
        last_line[stage] = now
        of = f" of {total:,}" if total is not None else ""
        print(f"{stage}: {done:,}{of} rows", file=sys.stderr, flush=True)  # noqa: T201  its purpose

    return report
