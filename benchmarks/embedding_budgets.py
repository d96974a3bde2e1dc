"""What AUC does each embedding method reach per megabyte, on the same rows with the same model?

    python -m benchmarks.embedding_budgets --work DIR --only dcn_v2 --jobs 2

Real Criteo rows, the committed configs, only `embeddings.default` differs. Every method gets the
largest setting whose serving bytes (as `recsys.embeddings.memory` counts them) are within a share
of the full table's. `hashed`, one shared table (`unified`) and a plain smaller dimension are the
cheap baselines. Finished runs are kept in DIR/runs.jsonl and not repeated; the record holds all of
them, whoever wins.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock

import yaml

import data_pipelines
from benchmarks.record import write_record
from recsys.base_config import apply_overrides, read_yaml, validate
from recsys.config import RunConfig
from recsys.errors import RecsysError
from recsys.schema import load_schema
from recsys.sharding.paper_run import count_run_bytes

REAL_DATA = Path(os.environ.get("RECSYS_REAL_DATA", "../shared/data"))
CONFIGS = Path(__file__).parent.parent / "configs"
RAW = "criteo_kaggle/dac_sample_137k.tsv.gz"
PREPARED = [
    "split.method=random",
    "split.seed=1",
    "split.fractions=[0.8,0.1,0.1]",
    "min_count=2",
]
DIM = 16
INIT = {"distribution": "normal", "std": 1.0e-2}
SHARES = (1.0, 0.5, 0.25, 0.1, 0.05, 0.01)
GRID = 4096
Method = Callable[[float], dict[str, object]]

# method → its config for a knob in (0, 1]; more is more bytes
METHODS: dict[str, Method] = {
    "full_table, smaller dim": lambda k: {
        "method": "full_table",
        "embedding_dim": max(1, int(k * DIM)),
    },
    "hashed per feature": lambda k: {"method": "hashed", "total_rows": rows(k)},
    "unified, 1 chunk": lambda k: {"method": "unified", "num_rows": rows(k)},
    "unified, 2 chunks": lambda k: {"method": "unified", "num_rows": 2 * rows(k), "num_chunks": 2},
    "quotient_remainder, multiply": lambda k: {
        "method": "compositional",
        "partitions": {"kind": "quotient_remainder", "row_share": k},
        "operation": "multiply",
        "full_below": 200,
    },
    "mixed_dimension": lambda k: {
        "method": "mixed_dimension",
        "temperature": 0.3,
        "budget_share": k,
    },
}
total_ids = 0


def rows(share: float) -> int:
    return max(1, int(share * total_ids))


def embeddings_of(method: str, knob: float) -> dict[str, object]:
    default = {"embedding_dim": DIM, "init": INIT, **METHODS[method](knob)}
    return {"default": default}


def serve_bytes(config: RunConfig) -> int:
    return count_run_bytes(config, load_schema(config.data.path)).serve_bytes


def config_for(model: str, method: str, knob: float, data: Path) -> RunConfig:
    content = read_yaml(CONFIGS / "criteo_kaggle" / f"{model}.yaml")
    content["embeddings"] = embeddings_of(method, knob)
    content = apply_overrides(content, [f"data.path={data}", "train.device=cpu"])
    return validate(RunConfig, content, method)


def largest_within(
    model: str, method: str, share: float, full: int, data: Path
) -> tuple[RunConfig, int] | None:
    """The method's largest config within share · full bytes, and its bytes; None: there is none."""
    low, high, best = 0, GRID, None
    while low < high:
        middle = (low + high + 1) // 2
        try:
            config = config_for(model, method, middle / GRID, data)
            size = serve_bytes(config)
        except RecsysError:
            size = None  # too small for this method: its own words say so
        if size is None:
            low = middle
        elif size <= share * full:
            low, best = middle, (config, size)
        else:
            high = middle - 1
    return best


def run_one(config: RunConfig, seed: int, run: Path) -> dict[str, float]:
    config_file = run.with_suffix(".yaml")
    config_file.parent.mkdir(parents=True, exist_ok=True)
    content = config.model_dump(mode="json")
    content["train"]["seed"] = seed
    config_file.write_text(yaml.safe_dump(content, sort_keys=False))
    shutil.rmtree(run, ignore_errors=True)  # what an interrupted benchmark left
    command = [sys.executable, "-m", "recsys", "train", str(config_file), "--out", str(run)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    splits = json.loads((run / "report.json").read_text())["splits"]
    return {f"{name}_auc": splits[name]["auc"] for name in ("valid", "test")}


def tasks(arguments: argparse.Namespace, data: Path) -> Iterator[tuple[dict, RunConfig]]:
    for model in arguments.only:
        full = serve_bytes(config_for(model, "full_table, smaller dim", 1.0, data))
        for share in arguments.shares:
            for method in METHODS:
                found = largest_within(model, method, share, full, data)
                for seed in arguments.seeds:
                    key = {"model": model, "method": method, "share": share, "seed": seed}
                    if found is None:
                        print(f"{model}, {method}: nothing within {share:.0%}", flush=True)
                        break
                    yield {**key, "serve_bytes": found[1], "full_bytes": full}, found[0]


def measure(arguments: argparse.Namespace) -> list[dict]:
    global total_ids
    work: Path = arguments.work
    data = work / "criteo_kaggle"
    if not data.exists():
        data_pipelines.prepare(
            "criteo_kaggle", [REAL_DATA / RAW], data, PREPARED, lambda *_: None, False
        )
    total_ids = sum(feature.num_ids for feature in load_schema(data).sparse)
    log = work / "runs.jsonl"
    done = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    known = {(r["model"], r["method"], r["share"], r["seed"]) for r in done}
    lock = Lock()

    def work_on(task: tuple[dict, RunConfig]) -> None:
        facts, config = task
        name = "-".join(str(facts[k]) for k in ("model", "method", "share", "seed"))
        run = work / "runs" / name.replace(" ", "_").replace(",", "").replace(".", "_")
        facts |= run_one(config, facts["seed"], run)
        with lock, log.open("a") as file:
            done.append(facts)
            file.write(json.dumps(facts) + "\n")
            print(f"{name}: test AUC {facts['test_auc']:.5f}", flush=True)

    open_tasks = [
        task
        for task in tasks(arguments, data)
        if (task[0]["model"], task[0]["method"], task[0]["share"], task[0]["seed"]) not in known
    ]
    with ThreadPoolExecutor(arguments.jobs) as pool:
        list(pool.map(work_on, open_tasks))
    return done


def to_markdown(runs: list[dict]) -> str:
    lines = []
    for model in dict.fromkeys(run["model"] for run in runs):
        mine = [run for run in runs if run["model"] == model]
        shares = sorted({run["share"] for run in mine}, reverse=True)
        full = mine[0]["full_bytes"]
        heads = [f"{share:.0%} ({share * full / 1e6:.2f} MB)" for share in shares]
        lines += ["", f"**{model}**, test AUC, mean ± standard deviation over seeds", ""]
        lines += ["| method | " + " | ".join(heads) + " |", "|---" * (1 + len(shares)) + "|"]
        for method in dict.fromkeys(run["method"] for run in mine):
            cells = []
            for share in shares:
                found = [
                    r["test_auc"] for r in mine if (r["method"], r["share"]) == (method, share)
                ]
                spread = f" ± {statistics.stdev(found):.4f}" if len(found) > 1 else ""
                cells.append(f"{statistics.mean(found):.4f}{spread}" if found else "none so small")
            lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--only", nargs="+", default=["dcn_v2"], help="models")
    parser.add_argument("--shares", nargs="+", type=float, default=list(SHARES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--no-record", action="store_true")
    arguments = parser.parse_args()
    runs = measure(arguments)
    print(to_markdown(runs))
    if not arguments.no_record:
        print(write_record("embedding_budgets", {"runs": runs}, to_markdown(runs)))


if __name__ == "__main__":
    main()
