"""DARE beside TWIN and mean pooling: AUC, what is retrieved, and what half the attention costs.

    python -m benchmarks.histories.decoupled_attention --work DIR [--only planted] [--jobs 2]

Rows: generated ones whose truth is known (`planted`), and Amazon Beauty and Sports (each
user's last item is test, the one before valid, one item drawn against each). One code path, one
tail, one optimizer; only what attention does differs. `dare, half` has embeddings of half the width
for attention. The learning rate of each model is the one with the best valid AUC at seed 0 (on
planted rows one for all: at 16 and 32 wide the best of 1e-3, 3e-3 and 1e-2). Runs are kept in
DIR/runs.jsonl and not repeated.
"""

import argparse
import json
import statistics
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks import harness
from benchmarks.generated import HISTORIES, PAIR
from benchmarks.histories.planted import write_planted
from benchmarks.runs import RunLog, train_in_process
from benchmarks.samples import SAMPLES, describe, prepared
from benchmarks.tables import mean_std, table

DATA = ("planted", "beauty", "sports")
LEARNING_RATES = {"planted": (1.0e-2,), "beauty": (3.0e-3, 1.0e-2), "sports": (3.0e-3, 1.0e-2)}
CHOICE_SEED = 0
L2 = {"planted": 0.0, "beauty": 1.0e-4, "sports": 1.0e-4}  # of the tables
RETRIEVAL = {"min_count": 20}  # of either label; the paper has 50, and more rows
TWO_STAGE = {"top_k": 20, "position_dim": 8, "auxiliary_weight": 1.0}
HALF = "dare, half"
# model → its section, and attention's width as a share of the representation's
MODELS: dict[str, tuple[dict, float | None]] = {
    "mean pooling": ({"name": "mean_pooling", "target_aware": True}, None),
    "twin": ({"name": "twin", **TWO_STAGE}, None),
    "dare": ({"name": "dare", **TWO_STAGE}, 1.0),
    HALF: ({"name": "dare", **TWO_STAGE}, 0.5),
}
# data → width of items and of categories each → models
RUNS: dict[str, dict[int, tuple[str, ...]]] = {
    "planted": {16: tuple(MODELS), 64: ("dare", HALF)},
    "beauty": {16: tuple(MODELS)},
    "sports": {16: tuple(MODELS)},
}


def dataset_folder(name: str, work: Path) -> Path:
    if name != "planted":
        return prepared(name, work)
    folder = work / name
    if not (folder / "schema.json").exists():
        best = write_planted(folder, seed=0)
        (work / "planted_best.json").write_text(json.dumps(best))
    return folder


def run_config(
    data: str, model: str, dim: int, learning_rate: float, seed: int, work: Path
) -> dict:
    section, share = MODELS[model]
    pair = PAIR if data == "planted" else SAMPLES[data].pair
    shared = {h: {"shares_table_with": target} for h, target in HISTORIES.items()}
    table = {"method": "full_table", "init": {"distribution": "normal", "std": 0.05}}
    embeddings = {
        "default": {**table, "embedding_dim": dim},
        "features": shared if data == "planted" else SAMPLES[data].features,
        "store": "plain",
    }
    if share is not None:
        search = {"default": {**table, "embedding_dim": int(dim * share)}}
        embeddings["roles"] = {"search": search}
    optimizer = {"name": "adam", "learning_rate": learning_rate}
    tail = {"hidden_dims": [128, 64], "activation": "prelu", "input_batch_norm": True}
    return {
        "data": {"path": str(dataset_folder(data, work)), "global_batch_size": 1024},
        "embeddings": embeddings,
        "model": {**section, **tail, "pairs": [pair]},
        "report": {"retrieval": RETRIEVAL},
        "train": {
            "epochs": 5,
            "plateau_factor": 0.2,
            "seed": seed,
            "device": "cpu",
            "dense_optimizer": optimizer,
            "embedding_optimizer": {**optimizer, "l2": L2[data]},
        },
    }


class Benchmark:
    """All runs of all models on all datasets."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        keys = ("data", "model", "dim", "learning_rate", "seed")
        self.log = RunLog(arguments.work / "runs.jsonl", keys)

    def run(self, data: str, model: str, dim: int, learning_rate: float, seed: int) -> dict:
        names = (data, model, dim, learning_rate, seed)
        done = self.log.find(*names)
        if done is not None:
            return done
        work = self.arguments.work
        folder = "-".join(map(str, names)).replace(" ", "_").replace(",", "").replace(".", "_")
        config = run_config(*names, work)
        return self.log.add(names, train_in_process(config, work / "runs" / folder))

    def chosen_rate(self, data: str, model: str, dim: int) -> float:
        """By valid AUC at a seed that is not reported."""
        rates = LEARNING_RATES[data]

        def valid_auc(rate: float) -> float:
            return self.run(data, model, dim, rate, CHOICE_SEED)["valid"]["auc"]

        return max(rates, key=valid_auc) if len(rates) > 1 else rates[0]

    def measure(self, data: str, dim: int, model: str) -> list[dict]:
        rate = self.chosen_rate(data, model, dim)
        return [self.run(data, model, dim, rate, seed) for seed in self.arguments.seeds]


def retrieval_of(runs: list[dict]) -> list[float]:
    """NDCG of the whole search; none for a model that searches nothing or too few rows."""
    found = [run["attention"][0]["retrieval"] for run in runs if run["attention"]]
    return [each["ndcg"] for each in found if each and each["ndcg"] is not None]


HOW_MADE = (
    "The planted rows were made to show a benefit of decoupling, and were changed several times "
    "before the models reached the figures below: which categories matter to a target is "
    "independent of their effect on the click. NDCG of the retrieved behaviors: the paper's "
    "metric, from all rows' labels; a behavior counts if it has at least "
    f"{RETRIEVAL['min_count']} rows of either label (the paper asks for 50 of more rows)."
)


def to_markdown(
    results: dict[tuple[str, int], dict[str, list[dict]]], work: Path, best: dict | None
) -> str:
    parts = [HOW_MADE]
    for (data, dim), models in results.items():
        seeds = ", ".join(str(run["seed"]) for run in next(iter(models.values())))
        parts += [
            f"**{data}**: {describe(work / data)}",
            f"Test rows, mean ± standard deviation over seeds {seeds}. Items and categories {dim} "
            f"wide each, in attention too; half of it: {dim // 2}.",
            table(
                ["model", "learning rate", "AUC", "difference to TWIN, by seed", "retrieval NDCG"],
                [row_of(model, runs, models.get("twin", [])) for model, runs in models.items()],
            ),
            " ".join(notes_below(models)),
        ]
        if data == "planted" and best:
            parts.append(f"AUC of the planted logits: {best['test']:.4f}.")
    return "\n\n".join(part for part in parts if part)


def row_of(model: str, runs: list[dict], twin: list[dict]) -> list[str]:
    aucs = [run["test"]["auc"] for run in runs]
    apart = [f"{a - run['test']['auc']:+.4f}" for a, run in zip(aucs, twin, strict=False)]
    ndcg = mean_std(retrieval_of(runs), 3)
    return [
        model, f"{runs[0]['learning_rate']:g}", mean_std(aucs), ", ".join(apart) or "–", ndcg
    ]  # fmt: skip


def notes_below(models: dict[str, list[dict]]) -> list[str]:
    """The search's baselines, and the cost of half the attention width."""
    lines = []
    first = next((r["attention"][0]["retrieval"] for r in models.get("dare", [])), None)
    if first and first["ndcg"] is not None:
        lines.append(
            f"NDCG of the {first['k']} most recent {first['most_recent']:.3f}, of drawn ones "
            f"{first['random']:.3f}; {first['rows_used']:,} of {first['rows']:,} rows have support."
        )
    if HALF in models and "dare" in models:
        means = [statistics.mean(r["test"]["auc"] for r in models[m]) for m in ("dare", HALF)]
        lines.append(f"Half the attention costs {means[0] - means[1]:+.4f} AUC.")
    return lines


def figures(results: dict[tuple[str, int], dict[str, list[dict]]]) -> dict[str, dict]:
    """By seed, for each dataset, width and model."""
    return {
        f"{data}, {dim}, {model}": {
            "seed": [run["seed"] for run in runs],
            "learning_rate": runs[0]["learning_rate"],
            "test_auc": [run["test"]["auc"] for run in runs],
            "valid_auc": [run["valid"]["auc"] for run in runs],
            "retrieval_ndcg": retrieval_of(runs),
        }
        for (data, dim), models in results.items()
        for model, runs in models.items()
    }


def main() -> None:
    parser = harness.parser(__doc__, seeds=(1, 2, 3), work="required")
    parser.add_argument("--only", nargs="+", choices=DATA, default=list(DATA))
    parser.add_argument("--jobs", type=int, default=1)
    arguments = parser.parse_args()
    benchmark = Benchmark(arguments)
    for data in arguments.only:
        dataset_folder(data, arguments.work)
    tasks = [
        (data, dim, model)
        for data in arguments.only
        for dim, models in RUNS[data].items()
        for model in models
    ]
    with ThreadPoolExecutor(arguments.jobs) as pool:
        measured = list(pool.map(lambda task: benchmark.measure(*task), tasks))
    results: dict[tuple[str, int], dict[str, list[dict]]] = {}
    for (data, dim, model), runs in zip(tasks, measured, strict=True):
        results.setdefault((data, dim), {})[model] = runs
    best_file = arguments.work / "planted_best.json"
    best = json.loads(best_file.read_text()) if best_file.exists() else None
    facts = {"runs": figures(results), "planted_best_auc": best}
    harness.report(arguments, facts, to_markdown(results, arguments.work, best))


if __name__ == "__main__":
    main()
