"""A small event log with its recipe, and a reference implementation of its samples."""

import polars as pl
import yaml

from data_pipelines import prepare, read_raw

COLUMNS = ["user", "item", "category", "action", "time"]
RECIPE = {
    "name": "log",
    "file": {"columns": COLUMNS, "header": False},
    "events": {"item_features": ["category"], "targets": {"min_history": 0}},
    "min_count": 1,
    "split": {"method": "last_two_items"},
}


class Log:
    """Writes events and a recipe, prepares, and gives rows back as texts."""

    def __init__(self, folder, events=()):
        self.folder = folder
        self.csv, self.recipe, self.out = folder / "log.csv", folder / "log.yaml", folder / "out"
        self.recipe.write_text(yaml.safe_dump(RECIPE))
        self.write(events)

    def write(self, events):
        """Rows of (user, item, time), or with an action; an item's category is its first letter."""
        rows = [(u, i, i[:1], *(rest or ["pv"]), t) for u, i, t, *rest in events]
        self.csv.write_text("".join(",".join(map(str, row)) + "\n" for row in rows))

    def prepare(self, *overrides, raw=None, out=None):
        self.schema = prepare(str(self.recipe), raw or [self.csv], out or self.out, overrides)
        return self.schema

    def ids(self, split, out=None):
        return pl.read_parquet(sorted((out or self.out).glob(f"{split}/*.parquet")))

    def texts(self, name):
        """The value of each id of a feature; id 0 is "?"."""
        table = pl.read_parquet(self.out / self.schema.feature(name).encoding.file)
        return ["?", *table.sort("id")["value"].to_list()]

    def samples(self, split, label=1):
        """(item, history as text) of each row, sorted."""
        rows = self.ids(split).filter(pl.col("label") == label)
        names = self.texts("item")
        pairs = rows.select("item", "item_history").iter_rows()
        return sorted((names[i], " ".join(names[j] for j in history)) for i, history in pairs)

    def all_samples(self, label=1):
        """The same of all splits, by `read_raw`, so that every item has its name."""
        rows = pl.concat(read_raw(self.schema, [self.csv])).filter(pl.col("label") == label)
        history = pl.col("item_history").fill_null("").str.replace_all("|", " ", literal=True)
        return sorted(rows.select("item", history).rows())


def random_events(generator, users=30, items=40, rows=1500, moments=60):
    """Events with many ties in time, in no order."""
    names = [f"{'abcd'[i % 4]}{i}" for i in range(items)]
    return [
        (f"u{int(u)}", names[int(i)], int(t), action)
        for u, i, t, action in zip(
            generator.integers(0, users, rows),
            (generator.random(rows) ** 2 * items).astype(int),
            generator.integers(0, moments, rows),
            generator.choice(["pv", "pv", "pv", "buy"], rows),
            strict=True,
        )
    ]


def plain_samples(events, max_length, behaviours=("pv", "buy"), targets=("pv", "buy")):
    """(item, history) of every target, one event after the other; histories strictly before."""
    by_user = {}
    for event in sorted(events, key=lambda event: event[2]):  # stable
        by_user.setdefault(event[0], []).append(event)
    return sorted(
        (item, " ".join(_before(own, time, behaviours)[-max_length:]))
        for own in by_user.values()
        for _, item, time, action in own
        if action in targets
    )


def _before(events, time, behaviours):
    return [item for _, item, t, action in events if t < time and action in behaviours]
