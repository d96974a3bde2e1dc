"""What AUC does each model reach on the real rows, beside FuxiCTR on the same rows?

    python -m benchmarks.quality.real_rows --work DIR [--only criteo_kaggle] [--peer-results DIR]

Two modes. `dense`: FuxiCTR's hyper-parameters and its optimiser (Adam and L2 over whole tables,
plain store), to be compared with its results. `committed`: the configs in `configs/`, as they are.
Every run leaves one line in DIR/runs.jsonl; a run that is there already is not repeated.
`--peer-results` holds FuxiCTR's lines, <data set>.jsonl, as `benchmarks.peers.fuxictr_train`
prints them.
"""

import argparse
import json
import os
import shutil
import statistics
import time
from pathlib import Path

from benchmarks.record import write_record
from benchmarks.seed_intervals import unpaired
from data_pipelines import prepare
from recsys.config.base import apply_overrides, read_yaml, validate
from recsys.config.run import RunConfig
from recsys.evaluation.score import evaluate_split
from recsys.reports import write_report
from recsys.training.run_folder.trained import load_trained
from recsys.training.train import train

REAL_DATA = Path(os.environ.get("RECSYS_REAL_DATA", "../shared/data"))
SPLIT = ["split.method=random", "split.seed=1", "split.fractions=[0.8,0.1,0.1]"]
# name → (recipe, raw file, overrides); the tokens of criteo_peer are FuxiCTR's: 0 shares id 0
DATASETS = {
    "criteo_kaggle": (
        "criteo_kaggle",
        "criteo_kaggle/dac_sample_137k.tsv.gz",
        [*SPLIT, "min_count=2"],
    ),
    "criteo_peer": (
        "criteo_kaggle",
        "criteo_kaggle/dac_sample_137k.tsv.gz",
        [
            *SPLIT,
            "min_count=2",
            "numerical.transform={kind: criteo_bucket, missing: 0, absent: [0]}",
        ],
    ),
    "avazu": ("avazu", "avazu/avazu_43k.csv.gz", [*SPLIT, "min_count=2"]),
    "movielens_1m": ("movielens_1m", "movielens_1m", [*SPLIT, "min_count=1"]),
}
PEER_FILES = {"criteo_peer": "criteo", "avazu": "avazu", "movielens_1m": "movielens"}
INIT = {"distribution": "normal", "std": 1e-4}
DENSE_MODELS = {
    "lr": ({"name": "logistic_regression"}, 1),
    "dcn_v2": ({"name": "dcn_v2", "num_cross_layers": 3, "hidden_dims": [256, 128]}, 16),
    "autoint": ({"name": "autoint", "residual": "identity_if_equal"}, 16),
    "autoint_plus": (
        {"name": "autoint", "residual": "identity_if_equal", "hidden_dims": [256, 128]},
        16,
    ),
}


def dense_config(model: str, dataset: Path) -> dict:
    """FuxiCTR's training of a model: dense Adam 1e-3, L2 1e-5 on the tables, plateau × 0.1."""
    choice, dim = DENSE_MODELS[model]
    return {
        "data": {"path": str(dataset), "global_batch_size": 2048},
        "embeddings": {
            "default": {"method": "full_table", "embedding_dim": dim, "init": INIT},
            "store": "plain",
        },
        "model": choice,
        "train": {
            "epochs": 100,
            "plateau_factor": 0.1,
            "early_stopping_patience": 2,
            "gradient_clip_norm": 10.0,
            "dense_optimizer": {"name": "adam", "learning_rate": 1e-3},
            "embedding_optimizer": {"name": "adam", "learning_rate": 1e-3, "l2": 1e-5},
        },
    }


def prepared(name: str, work: Path) -> Path:
    recipe, raw, overrides = DATASETS[name]
    out = work / name
    if not (out / "schema.json").exists():
        prepare(recipe, [REAL_DATA / raw], out, overrides)
    return out


def planned_runs(only: str | None, seeds: list[int]) -> list[tuple[str, str, str, int]]:
    """(mode, data set, model, seed) of every run."""
    runs = []
    for dataset in ("criteo_peer", "avazu", "movielens_1m"):
        models = DENSE_MODELS if dataset == "criteo_peer" else ("dcn_v2", "autoint")
        runs += [("dense", dataset, model, seed) for model in models for seed in seeds]
    for dataset in ("criteo_kaggle", "avazu", "movielens_1m"):
        models = sorted(path.stem for path in Path("configs", dataset).glob("*.yaml"))
        runs += [("committed", dataset, model, seed) for model in models for seed in seeds]
    return [run for run in runs if only is None or only in "/".join(map(str, run))]


def run_once(mode: str, dataset: str, model: str, seed: int, work: Path) -> dict:
    folder = prepared(dataset, work)
    if mode == "dense":
        content = dense_config(model, folder)
    else:
        content = read_yaml(Path("configs", dataset, f"{model}.yaml"))
    overrides = [f"data.path={folder}", f"train.seed={seed}"]
    config = validate(RunConfig, apply_overrides(content, overrides), f"{dataset}/{model}")
    run = work / "run"
    shutil.rmtree(run, ignore_errors=True)
    start = time.perf_counter()
    train(config, run)
    seconds = time.perf_counter() - start
    trained = load_trained(run)
    for split in ("valid", "test"):
        evaluate_split(trained, split)
    report = write_report(run, folder)
    facts = json.loads((run / "training.json").read_text())
    return {
        "mode": mode,
        "dataset": dataset,
        "model": model,
        "seed": seed,
        **{
            f"{split}_{metric}": report["splits"][split][metric]
            for split in ("valid", "test")
            for metric in ("auc", "log_loss")
        },
        "best_epoch": facts["best_epoch"],
        "epochs": facts["training"]["epochs"],
        "seconds": round(seconds, 1),
        "commit": json.loads((run / "environment.json").read_text())["commit"],
    }


def peer_aucs(dataset: str, model: str, folder: Path | None) -> list[float]:
    file = folder / f"{PEER_FILES.get(dataset, '-')}.jsonl" if folder else None
    if file is None or not file.exists():
        return []
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    return [line["test_auc"] for line in lines if line["model"] == model]


def mean_std(values: list[float]) -> str:
    if not values:
        return "–"
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.4f} ± {spread:.4f} ({len(values)})"


def tabulate(runs: list[dict], peer_results: Path | None) -> str:
    lines = [
        "| mode | data | model | test AUC, mean ± std (seeds) | log loss | valid AUC "
        "| FuxiCTR's test AUC | difference, Welch's 95 % |",
        "|---|---|---|---|---|---|---|---|",
    ]
    groups = dict.fromkeys((r["mode"], r["dataset"], r["model"]) for r in runs)
    for mode, dataset, model in groups:
        group = [r for r in runs if (r["mode"], r["dataset"], r["model"]) == (mode, dataset, model)]
        aucs = [r["test_auc"] for r in group]
        peer = peer_aucs(dataset, model, peer_results) if mode == "dense" else []
        difference = unpaired(aucs, peer) if peer else "–"
        log_loss = statistics.mean(r["test_log_loss"] for r in group)
        valid = statistics.mean(r["valid_auc"] for r in group)
        lines.append(
            f"| {mode} | {dataset} | {model} | {mean_std(aucs)} | {log_loss:.4f} | {valid:.4f} "
            f"| {mean_std(peer)} | {difference} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="prepared data and runs.jsonl")
    parser.add_argument("--only", help="runs whose mode/data/model/seed holds this text")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--peer-results", type=Path)
    parser.add_argument("--no-record", action="store_true")
    arguments = parser.parse_args()
    log = arguments.work / "runs.jsonl"
    arguments.work.mkdir(parents=True, exist_ok=True)
    done = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    known = {(r["mode"], r["dataset"], r["model"], r["seed"]) for r in done}
    for run in planned_runs(arguments.only, arguments.seeds):
        if run in known:
            continue
        done.append(run_once(*run, arguments.work))
        with log.open("a") as file:
            file.write(json.dumps(done[-1]) + "\n")
    table = tabulate(done, arguments.peer_results)
    print(table)
    if not arguments.no_record:
        write_record("real_rows", {"runs": done}, table)


if __name__ == "__main__":
    main()
