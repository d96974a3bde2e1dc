"""Training runs of benchmarks, and a log of them: an interrupted benchmark continues from it."""

import json
import shutil
import sys
import time
from pathlib import Path
from threading import Lock

import yaml

from benchmarks.harness import run
from recsys.config.run import RunConfig
from recsys.evaluation.score import evaluate_split
from recsys.reports import write_report
from recsys.training.run_folder.trained import load_trained
from recsys.training.train import train


class RunLog:
    """A file with one JSON line for each run, found again by the keys that identify a run."""

    def __init__(self, path: Path, keys: tuple[str, ...]) -> None:
        self.path, self.keys, self.lock = path, keys, Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = path.read_text().splitlines() if path.exists() else []
        self.runs: list[dict] = [json.loads(line) for line in lines]

    def find(self, *names: object) -> dict | None:
        return next((r for r in self.runs if tuple(r[k] for k in self.keys) == names), None)

    def add(self, names: tuple, facts: dict) -> dict:
        added = {**dict(zip(self.keys, names, strict=True)), **facts}
        with self.lock, self.path.open("a") as file:
            self.runs.append(added)
            file.write(json.dumps(added) + "\n")
        print(json.dumps({k: v for k, v in added.items() if not isinstance(v, dict)}), flush=True)
        return added


def train_and_score(config: RunConfig, folder: Path) -> dict:
    """Trains in this process; scores, sizes and duration of the run."""
    shutil.rmtree(folder, ignore_errors=True)  # left by an interrupted benchmark
    start = time.perf_counter()
    train(config, folder)
    seconds = time.perf_counter() - start
    trained = load_trained(folder)
    for split in ("valid", "test"):
        evaluate_split(trained, split)
    report = write_report(folder, trained.dataset_dir)
    return {
        **{
            f"{split}_{metric}": report["splits"][split][metric]
            for split in ("valid", "test")
            for metric in ("auc", "log_loss")
        },
        "serve_bytes": report["embeddings"]["serve_bytes"],
        "best_epoch": report["best_epoch"],
        "epochs": report["training"]["epochs"],
        "seconds": round(seconds, 1),
        "commit": json.loads((folder / "environment.json").read_text())["commit"],
    }


def train_in_process(config: dict, folder: Path) -> dict:
    """Trains by `recsys train` in a process of one thread; what the report says of the run."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    file = folder.with_suffix(".yaml")
    file.write_text(yaml.safe_dump(config, sort_keys=False))
    start = time.perf_counter()
    run([sys.executable, "-m", "recsys", "train", file, "--out", folder], threads=1)
    report = json.loads((folder / "report.json").read_text())
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
        "commit": json.loads((folder / "environment.json").read_text())["commit"],
    }
