"""How fast does an event log become rows with histories, in how much memory, beside pandas?

    python -m benchmarks.speed.events --peer-python PYTHON --work DIR       2 M and 10 M events
    python -m benchmarks.speed.events --events 100000 --no-record           a quick look

Generated events in order of time: users with 100 events on average and very unequal, items and
categories by 1/rank. `peers/pandas_events.py` makes the same kind of rows (its text says which) in
a python that has pandas. Each tool runs in a process of its own and times itself without its
imports; peak RSS is of that process. What 100 M events take is extrapolated from the growth.
"""

import argparse
import json
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import csv

from benchmarks import harness
from benchmarks.tables import table

EVENTS_PER_USER, EVENTS_PER_ITEM, CATEGORIES = 100, 25, 5_000
CHUNK_EVENTS, SECONDS_PER_CHUNK = 1_000_000, 86_400
CHECKED = "recsys, leaks looked for"
RECIPE = """
events:
  item_features: [category]
  max_length: 100
  targets: {every: 5, per_user: 19}
  check_leakage: CHECK
split: last_two_items
min_count: 1
"""


def write_events(path: Path, events: int) -> None:
    """user, item, category, time as CSV with a header."""
    rng = np.random.default_rng(11)
    users, items = events // EVENTS_PER_USER, events // EVENTS_PER_ITEM
    with path.open("wb") as file:
        for start in range(0, events, CHUNK_EVENTS):
            size = min(CHUNK_EVENTS, events - start)
            item = np.exp(rng.random(size) * np.log(items)).astype(np.int64)
            times = np.sort(rng.integers(0, SECONDS_PER_CHUNK, size))
            drawn = pa.table(
                {
                    "user": (users * rng.random(size) ** 1.5).astype(np.int64),
                    "item": item * 2_654_435_761 % 2**32,  # names that say nothing of frequency
                    "category": item * 40_503 % CATEGORIES,
                    "time": times + start // CHUNK_EVENTS * SECONDS_PER_CHUNK,
                }
            )
            options = csv.WriteOptions(include_header=start == 0)
            csv.write_csv(drawn, file, options)


def run_ours_here(events: Path, out: Path, check: bool) -> dict:
    from data_pipelines import prepare
    from recsys.schema import load_schema

    recipe = out.with_suffix(".yaml")
    recipe.write_text(RECIPE.replace("CHECK", str(check)))
    start = time.perf_counter()
    prepare(str(recipe), [events], out)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    rows = sum(split.rows for split in load_schema(out).splits.values())
    return {"seconds": seconds, "peak_rss_bytes": peak, "rows": rows}


def measure(arguments: argparse.Namespace, events: int, folder: Path) -> list[dict]:
    """Each tool on the same events, in turns."""
    log = folder / "events.csv"
    write_events(log, events)
    results = []
    for _ in range(arguments.rounds):
        ours: list[object] = [sys.executable, "-m", "benchmarks.speed.events", "--ours-once"]
        commands = {"recsys": ours, CHECKED: [*ours, "--check"]}
        if arguments.peer_python and events <= arguments.peer_max_events:
            commands["pandas"] = [arguments.peer_python, harness.PEERS / "pandas_events.py"]
        for tool, command in commands.items():
            out = folder / "out"
            result = harness.run_json([*command, "--events", log, "--out", out])
            shutil.rmtree(out)
            results.append(
                {"tool": tool, "events": events, "csv_bytes": log.stat().st_size} | result
            )
            print(json.dumps(results[-1]), flush=True)
    return results


def median_run(runs: list[dict]) -> dict:
    return sorted(runs, key=lambda run: run["seconds"])[len(runs) // 2]


def to_markdown(results: list[dict]) -> str:
    found = {
        (events, tool): median_run(
            [r for r in results if (r["events"], r["tool"]) == (events, tool)]
        )
        for events, tool in dict.fromkeys((r["events"], r["tool"]) for r in results)
    }
    text = table(
        ["events", "tool", "seconds", "events/s", "rows made", "rows/s", "peak RSS, MB"],
        [
            (
                f"{events:,}",
                tool,
                f"{run['seconds']:.1f}",
                f"{events / run['seconds']:,.0f}",
                f"{run['rows']:,}",
                f"{run['rows'] / run['seconds']:,.0f}",
                f"{run['peak_rss_bytes'] / 1e6:,.0f}",
            )
            for (events, tool), run in found.items()
        ],
    )
    return "\n\n".join([text, *(growth_of(tool, found) for tool in ("recsys", CHECKED))])


def growth_of(tool: str, found: dict[tuple[int, str], dict]) -> str:
    """Memory by number of events, extrapolated to 100 M."""
    sizes = sorted(events for events, name in found if name == tool)
    if len(sizes) < 2:
        return ""
    low, high = (found[size, tool]["peak_rss_bytes"] for size in (sizes[0], sizes[-1]))
    slope = (high - low) / (sizes[-1] - sizes[0])
    whole = low + slope * (100_000_000 - sizes[0])
    return (
        f"{tool}: from {sizes[0]:,} to {sizes[-1]:,} events peak RSS grows by {slope:,.0f} bytes "
        f"an event; 100 M events would take {whole / 1e9:.1f} GB (asked: at most 16)."
    )


def main() -> None:
    parser = harness.parser(__doc__, rounds=1, work="optional")
    parser.add_argument("--events", nargs="+", default=[2_000_000, 10_000_000])
    parser.add_argument("--peer-python", type=Path, help="a python that has pandas and pyarrow")
    parser.add_argument("--peer-max-events", type=int, default=10_000_000)
    parser.add_argument("--ours-once", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--check", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.ours_once:
        log = Path(arguments.events[0])
        print(json.dumps(run_ours_here(log, arguments.out, arguments.check)))
        return
    results: list[dict] = []
    for events in arguments.events:
        with tempfile.TemporaryDirectory(dir=arguments.work) as folder:
            results += measure(arguments, int(events), Path(folder))
    facts = {"runs": results, "cores": harness.cores(), "recipe": RECIPE}
    harness.report(arguments, facts, to_markdown(results))


if __name__ == "__main__":
    main()
