"""An event log → rows with histories, as one writes it in pandas. Needs pandas and pyarrow only.

    PYTHON pandas_events.py --events events.csv --out DIR

The work of `prepare events` with the settings of `benchmarks.speed.events`: ids by how often an
item occurs among what a user did before its valid target; of each user's events the last is a test
target, the one before a valid target, of the rest every fifth going back a train target, 19 at
most; one item drawn against each that the user has no event with; histories of what is strictly
before in time, at most 100. Rows are written in portions, so that not all are held at once.
Prints one line of JSON: seconds without the imports, peak RSS in bytes, rows.
"""

import argparse
import json
import random
import resource
import time
from bisect import bisect_left
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

MAX_LENGTH, EVERY, PER_USER = 100, 5, 19
PORTION_ROWS = 100_000
COLUMNS = {
    "item": pa.int32(),
    "category": pa.int32(),
    "item_history": pa.list_(pa.int32()),
    "category_history": pa.list_(pa.int32()),
    "label": pa.int8(),
    "user": pa.int64(),
}


class Portions:
    """Rows of one split, written when there are enough of them."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True)
        self.schema = pa.schema(COLUMNS)
        self.writer = pq.ParquetWriter(path, self.schema)
        self.rows: list[tuple] = []
        self.written = 0

    def add(self, row: tuple) -> None:
        self.rows.append(row)
        if len(self.rows) >= PORTION_ROWS:
            self.flush()

    def flush(self) -> None:
        frame = pd.DataFrame(self.rows, columns=list(COLUMNS))
        self.writer.write_table(pa.Table.from_pandas(frame, self.schema, preserve_index=False))
        self.written += len(self.rows)
        self.rows = []

    def close(self) -> int:
        self.flush()
        self.writer.close()
        return self.written


def encode(frame: pd.DataFrame, column: str) -> pd.Series:
    """1 = the most frequent of the train events, 0 = not among them."""
    from_end = frame.groupby("user").cumcount(ascending=False)
    counts = frame.loc[from_end >= 2, column].value_counts()
    ids = pd.Series(range(1, len(counts) + 1), index=counts.index)
    return frame[column].map(ids).fillna(0).astype("int32")


def targets_of(length: int) -> list[tuple[str, int]]:
    """(split, place) of a user's targets; the first event has no history."""
    last = length - 1
    places = [("test", last), ("valid", last - 1)]
    places += [("train", place) for place in range(last - 2, 0, -EVERY)][:PER_USER]
    return [(split, place) for split, place in places if place > 0]


def add_user(rows: dict[str, Portions], user: int, events: pd.DataFrame, pool: list) -> None:
    items, categories = events["item"].tolist(), events["category"].tolist()
    times, raw = events["time"].tolist(), events["raw"].tolist()
    own = set(raw)
    for split, place in targets_of(len(items)):
        end = bisect_left(times, times[place])  # strictly before: not what has the same time
        if end == 0:
            continue
        start = max(0, end - MAX_LENGTH)
        history = (items[start:end], categories[start:end])
        rows[split].add((items[place], categories[place], *history, 1, user))
        drawn = random.choice(pool)
        while drawn[0] in own:
            drawn = random.choice(pool)
        rows[split].add((drawn[1], drawn[2], *history, 0, user))


def prepare(path: Path, out: Path) -> int:
    frame = pd.read_csv(path, dtype={"user": "int64", "item": "int64", "category": "int64"})
    frame = frame.sort_values(["user", "time"], kind="stable", ignore_index=True)
    frame["raw"] = frame["item"]
    for column in ("item", "category"):
        frame[column] = encode(frame, column)
    items = frame.drop_duplicates("raw")
    pool = list(zip(items["raw"], items["item"], items["category"], strict=True))
    random.seed(1)
    rows = {s: Portions(out / s / "part-00000.parquet") for s in ("train", "valid", "test")}
    for user, events in frame.groupby("user", sort=False):
        add_user(rows, user, events, pool)
    return sum(split.close() for split in rows.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    start = time.perf_counter()
    rows = prepare(arguments.events, arguments.out)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": seconds, "peak_rss_bytes": peak, "rows": rows}))


if __name__ == "__main__":
    main()
