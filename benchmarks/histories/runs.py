"""What benchmarks of sequence models share: data sets, training runs, and a log of them.

A run is `recsys train` in a process of its own. Its line goes into a file as soon as it is done, so
that a benchmark which is interrupted goes on where it was.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import yaml

from data_pipelines import prepare
from recsys.schema import load_schema

REAL_DATA = Path(os.environ.get("RECSYS_REAL_DATA", "../shared/data"))
BY_USER = ["split.method=last_two_items", "events.max_length=50", "min_count=1"]


class Dataset(NamedTuple):
    """A recipe with its raw files and overrides, and what its columns are called."""

    recipe: str
    raw: tuple[str, ...]
    overrides: tuple[str, ...]
    item: str = "item"
    category: str | None = "category"

    @property
    def pair(self) -> dict[str, list[str]]:
        target = [name for name in (self.item, self.category) if name is not None]
        return {"target": target, "history": [f"{name}_history" for name in target]}

    @property
    def shared_tables(self) -> dict[str, str]:
        return dict(zip(self.pair["history"], self.pair["target"], strict=True))


def item_lists(name: str) -> Dataset:
    raw = (f"amazon/{name}_5core_s3rec_seq.txt.gz", f"amazon/{name}_item2attributes.json.gz")
    return Dataset("amazon_lists", raw, tuple(BY_USER))


DATASETS = {
    "grocery": Dataset(
        "configs/recipes/amazon_grocery.yaml",
        ("amazon/Grocery_5core_rechorus_train_122k.tsv.gz", "amazon/Grocery_item_category.tsv.gz"),
        (),
    ),
    "beauty": item_lists("Beauty"),
    "sports": item_lists("Sports"),
    "movielens": Dataset(
        "movielens_1m_history", ("movielens_1m",), ("min_count=1",), item="movie", category=None
    ),
}


def prepared(name: str, work: Path) -> Path:
    """The data set's folder, prepared when it is not there yet."""
    out = work / name
    if not (out / "schema.json").exists():
        dataset = DATASETS[name]
        prepare(dataset.recipe, [REAL_DATA / raw for raw in dataset.raw], out, dataset.overrides)
    return out


def describe(folder: Path) -> str:
    """Rows by split, ids by feature, and how they were split."""
    schema = load_schema(folder)
    rows = ", ".join(f"{split.rows:,} {name}" for name, split in schema.splits.items())
    ids = ", ".join(f"{f.num_ids:,} {f.name}" for f in schema.of_kind("categorical"))
    split = schema.recipe.get("split", {"method": "independent rows"})
    method = split["method"] if isinstance(split, dict) else split
    longest = max(f.max_length or 0 for f in schema.sparse)
    return f"{rows} rows ({method}); ids: {ids}; histories of at most {longest}"


class RunLog:
    """One line of JSON a run, found again by the keys that name it."""

    def __init__(self, path: Path, keys: tuple[str, ...]) -> None:
        self.path, self.keys = path, keys
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = path.read_text().splitlines() if path.exists() else []
        self.runs: list[dict] = [json.loads(line) for line in lines]

    def find(self, *names: object) -> dict | None:
        return next((r for r in self.runs if tuple(r[k] for k in self.keys) == names), None)

    def add(self, names: tuple, facts: dict) -> dict:
        run = {**dict(zip(self.keys, names, strict=True)), **facts}
        self.runs.append(run)
        with self.path.open("a") as file:
            file.write(json.dumps(run) + "\n")
        print(json.dumps({k: v for k, v in run.items() if not isinstance(v, dict)}), flush=True)
        return run


def train_ours(config: dict, run: Path) -> dict:
    """Trains into the folder `run`; what its report says of it."""
    shutil.rmtree(run, ignore_errors=True)  # what an interrupted benchmark left
    run.parent.mkdir(parents=True, exist_ok=True)
    file = run.with_suffix(".yaml")
    file.write_text(yaml.safe_dump(config, sort_keys=False))
    start = time.perf_counter()
    run_process([sys.executable, "-m", "recsys", "train", file, "--out", run])
    report = json.loads((run / "report.json").read_text())
    kept = ("auc", "auc_ci95", "gauc", "gauc_ci95", "log_loss", "rows")
    return {
        **{split: {k: report["splits"][split][k] for k in kept} for split in ("valid", "test")},
        "attention": [
            {key: pair[key] for key in ("target", "retrieval", "retrieval_by_feature")}
            for pair in report.get("attention", ())
        ],
        "best_epoch": report["best_epoch"],
        "epochs": report["training"]["epochs"],
        "samples_per_second": report["training"]["samples_per_second"],
        "seconds": round(time.perf_counter() - start, 1),
        "commit": json.loads((run / "environment.json").read_text())["commit"],
    }


def run_process(command: list[object]) -> str:
    """What it prints; one thread, so that several run side by side."""
    done = subprocess.run(
        [str(part) for part in command],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])
    return done.stdout


def mean_std(values: list[float], digits: int = 4) -> str:
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.{digits}f} ± {spread:.{digits}f}"
