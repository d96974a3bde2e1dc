"""What AUC does each model reach on real rows, and what does FuxiCTR reach on the same rows?

    python -m benchmarks.quality.real_rows --work DIR [--only criteo_kaggle] [--peer-results DIR]

Two modes. `dense`: FuxiCTR's hyper-parameters and optimizer (Adam and L2 over whole tables, plain
store), to be compared with its results. `committed`: the configs in `configs/` as they are. Each
run leaves one line in DIR/runs.jsonl and is not repeated. `--peer-results` holds FuxiCTR's lines,
<dataset>.jsonl, as `benchmarks.peers.fuxictr_train` prints them.
"""

import json
import statistics
from pathlib import Path

from benchmarks import harness
from benchmarks.runs import RunLog, train_and_score
from benchmarks.samples import prepared
from benchmarks.tables import by_seed, mean_std, table, unpaired
from recsys.config.base import validate
from recsys.config.run import RunConfig
from recsys.config.yaml_files import apply_overrides, read_yaml

MIXED = "mixed_methods"
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


def planned_runs(only: str | None, seeds: list[int]) -> list[tuple[str, str, str, int]]:
    """(mode, dataset, model, seed) of every run; `mixed_methods` has a benchmark of its own."""
    runs = []
    for dataset in ("criteo_peer", "avazu", "movielens_1m"):
        models = DENSE_MODELS if dataset == "criteo_peer" else ("dcn_v2", "autoint")
        runs += [("dense", dataset, model, seed) for model in models for seed in seeds]
    for dataset in ("criteo_kaggle", "avazu", "movielens_1m"):
        models = sorted(
            path.stem for path in (harness.CONFIGS / dataset).glob("*.yaml") if path.stem != MIXED
        )
        runs += [("committed", dataset, model, seed) for model in models for seed in seeds]
    return [run for run in runs if only is None or only in "/".join(map(str, run))]


def run_once(mode: str, dataset: str, model: str, seed: int, work: Path) -> dict:
    folder = prepared(dataset, work)
    if mode == "dense":
        content = dense_config(model, folder)
    else:
        content = read_yaml(harness.CONFIGS / dataset / f"{model}.yaml")
    overrides = [f"data.path={folder}", f"train.seed={seed}"]
    config = validate(RunConfig, apply_overrides(content, overrides), f"{dataset}/{model}")
    return train_and_score(config, work / "run")


def peer_aucs(dataset: str, model: str, folder: Path | None) -> list[float]:
    file = folder / f"{PEER_FILES.get(dataset, '-')}.jsonl" if folder else None
    if file is None or not file.exists():
        return []
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    return [line["test_auc"] for line in lines if line["model"] == model]


def to_markdown(groups: dict[str, dict[str, list]], peer_results: Path | None) -> str:
    rows = []
    for names, group in groups.items():
        mode, dataset, model = names.split(", ")
        aucs = group["test_auc"]
        peer = peer_aucs(dataset, model, peer_results) if mode == "dense" else []
        rows.append(
            [mode, dataset, model, f"{mean_std(aucs)} ({len(aucs)})"]
            + [f"{statistics.mean(group[name]):.4f}" for name in ("test_log_loss", "valid_auc")]
            + ([f"{mean_std(peer)} ({len(peer)})", unpaired(aucs, peer)] if peer else ["–", "–"])
        )
    heads = ["mode", "data", "model", "test AUC, mean ± std (seeds)", "log loss", "valid AUC"]
    return table([*heads, "FuxiCTR's test AUC", "difference, Welch's 95 %"], rows)


def main() -> None:
    parser = harness.parser(__doc__, seeds=(1, 2, 3), work="required")
    parser.add_argument("--only", help="runs whose mode/data/model/seed contains this text")
    parser.add_argument("--peer-results", type=Path)
    arguments = parser.parse_args()
    log = RunLog(arguments.work / "runs.jsonl", ("mode", "dataset", "model", "seed"))
    for names in planned_runs(arguments.only, arguments.seeds):
        if log.find(*names) is None:
            log.add(names, run_once(*names, arguments.work))
    figures = ("test_auc", "test_log_loss", "valid_auc", "epochs", "seconds")
    groups = by_seed(log.runs, log.keys[:3], figures)
    harness.report(arguments, groups, to_markdown(groups, arguments.peer_results))


if __name__ == "__main__":
    main()
