"""The runs of `embedding_budgets`, which are kept and not repeated.

DIR/runs.jsonl has a line for each run, DIR/runs its folder. A search trains one supernet for each
model and seed (DIR/searches) and chooses from it for every share. On two cores, start two of them
with different models or methods: each reads the runs that the other has finished.
"""

import argparse
import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import yaml

from benchmarks import harness
from benchmarks.quality.budget_methods import (
    FULL,
    SEARCHES,
    config_for,
    largest_within,
    search_config,
    serve_bytes,
)
from benchmarks.runs import train_and_score
from benchmarks.samples import prepared
from recsys.config.run import RunConfig, load_config
from recsys.errors import RecsysError
from recsys.schema import load_schema
from recsys.search.search import STATE_FILE, SUPERNET
from recsys.search.search import search as run_search

NONE_FITS = "no candidate fits into the budget"


class Task(NamedTuple):
    """One run: the model with the method's best use of a share of the full tables' bytes."""

    dataset: str
    model: str
    method: str
    share: float
    seed: int

    @property
    def name(self) -> str:
        """For a folder."""
        parts = map(str, self[1:] if self.dataset == "criteo_kaggle" else self)
        return "-".join(parts).replace(" ", "_").replace(",", "").replace(".", "_")


class Runs:
    """Trains tasks and keeps their results."""

    def __init__(self, work: Path) -> None:
        self.work = work.resolve()
        self.work.mkdir(parents=True, exist_ok=True)
        self.log = self.work / "runs.jsonl"
        self.done: dict[Task, dict] = {}
        self.read()

    def read(self) -> None:
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        for facts in map(json.loads, lines):
            self.done[Task(*(facts[field] for field in Task._fields))] = facts

    def data(self, dataset: str) -> Path:
        """The prepared rows."""
        return prepared(dataset, self.work)

    def folder(self, task: Task) -> Path:
        """Of the run, or of the run that it equals."""
        return self.work / "runs" / self.done.get(task, {}).get("same_as", task.name)

    def do(self, tasks: Iterable[Task]) -> None:
        """All that are not done yet."""
        for task in tasks:
            self.read()
            if task not in self.done:
                self._do(task)

    def _do(self, task: Task) -> None:
        chosen = self._searched(task) if task.method in SEARCHES else self._largest(task)
        config, choice = chosen
        facts = {**task._asdict(), **(self._scores(task, config, choice) if config else choice)}
        with self.log.open("a") as file:
            file.write(json.dumps(facts) + "\n")
        self.done[task] = facts
        print(f"{task.name}: {facts.get('test_auc', 'none so small')}", flush=True)

    def _largest(self, task: Task) -> tuple[RunConfig | None, dict]:
        found = largest_within(*task[:4], self.data(task.dataset))
        if found is None:
            return None, {"none": "no setting is so small"}
        return found.config, {"serve_bytes": found.bytes, "choice": str(found.bytes)}

    def _searched(self, task: Task) -> tuple[RunConfig | None, dict]:
        """Trains the supernet where it is not trained yet, and chooses for this share."""
        owner = supernet_of(task.method)
        out = self.work / "searches" / f"{task.model}-{owner.replace(', ', '_')}-{task.seed}"
        config = search_config(*task[:4], self.data(task.dataset))
        file, kept = write_config(config, task.seed, out), self.work / "allocations" / task.name
        (out / STATE_FILE).unlink(missing_ok=True)  # scored for another share
        has_begun = (out / SUPERNET / "config.yaml").exists()
        try:
            run_search(load_config(file), out, resume=has_begun)
        except RecsysError as error:
            if NONE_FITS not in str(error):
                raise
            return None, {"none": NONE_FITS}
        kept.mkdir(parents=True, exist_ok=True)
        for made in out.glob("allocation.*"):
            shutil.copyfile(made, kept / made.name)
        found = json.loads((kept / "allocation.json").read_text())
        small = load_config(file, [f"embeddings.allocation={kept / 'allocation.json'}"])
        return small, {
            "serve_bytes": serve_bytes(small, load_schema(config.data.path)),
            "choice": json.dumps([[f["kept_rows"], f["dims"]] for f in found["features"].values()]),
            **{f"{name}_valid_auc": found[name]["auc"] for name in ("supernet", "chosen")},
        }

    def _scores(self, task: Task, config: RunConfig, choice: dict) -> dict:
        """Of the run; or those of an earlier run that has chosen the same."""
        for other, facts in list(self.done.items()):
            is_same = "same_as" not in facts and facts.get("choice") == choice["choice"]
            if is_same and is_of_one_origin(task, other):
                same = {key: facts[key] for key in ("valid_auc", "test_auc", "commit")}
                return {**choice, **same, "same_as": other.name, "same_as_share": other.share}
        return {**choice, **train(config, task.seed, self.work / "runs" / task.name)}

    def full_bytes(self, dataset: str) -> int:
        """Of full tables of the committed width."""
        data = self.data(dataset)
        return serve_bytes(config_for(dataset, "dcn_v2", FULL, 1.0, data), load_schema(data))


def is_of_one_origin(task: Task, other: Task) -> bool:
    """They differ in nothing but what was chosen."""
    return other._replace(method=task.method, share=task.share) == task and (
        supernet_of(other.method) == supernet_of(task.method)
    )


def supernet_of(method: str) -> str:
    """The method whose supernet it uses; other methods return themselves."""
    search = SEARCHES.get(method)
    return (search.supernet_of if search else None) or method


def train(config: RunConfig, seed: int, run: Path) -> dict:
    """AUCs and the commit of the run."""
    found = train_and_score(load_config(write_config(config, seed, run)), run)
    return {key: found[key] for key in ("valid_auc", "test_auc", "commit")}


def write_config(config: RunConfig, seed: int, out: Path) -> Path:
    """Beside the folder it is for."""
    content = config.model_dump(mode="json")
    content["train"]["seed"] = seed
    out.parent.mkdir(parents=True, exist_ok=True)
    file = out.with_name(f"{out.name}.yaml")
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    return file


def parser(doc: str | None) -> argparse.ArgumentParser:
    """The options of every benchmark that uses these runs."""
    made = harness.parser(doc, seeds=(1, 2, 3), work="required")
    made.add_argument("--as-is", action="store_true", help="trains nothing, records finished runs")
    return made
