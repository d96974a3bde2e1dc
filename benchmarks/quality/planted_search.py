"""Do OptEmbed and DNIS drop features and ids that are known to be useless, and how many columns?

    python -m benchmarks.quality.planted_search --seeds 0 1 2          # minutes on two cores

The rows are generated so that the right answer is known. `useless_*`: no label depends on them.
`weight_*`: each id has a weight of its own, so few columns do. `pair_a` and `pair_b` meet in a
product of 8 hidden numbers each, so they need many. `head`: its 200 most frequent ids have weights,
the other 4,800 none. A full table is trained for comparison, and each search's result is
retrained; AUC is that of the test rows, which no search reads.
"""

import json
import statistics
import tempfile
from pathlib import Path

import numpy as np
import polars as pl
import torch
import yaml

from benchmarks import harness
from benchmarks.runs import train_and_score
from benchmarks.tables import table
from recsys.config.run import RunConfig, load_config
from recsys.config.yaml_files import apply_overrides
from recsys.schema import Feature, VocabularyEncoding
from recsys.search.search import search
from tests.tiny_dataset import write_dataset, write_vocabulary

ROWS = {"train": 200_000, "valid": 40_000, "test": 100_000}
HIDDEN, HEAD_IDS = 8, 200
CARDINALITIES = {
    "useless_small": 500,
    "useless_large": 5000,
    "useless_other": 2000,
    "weight_small": 50,
    "weight_large": 2000,
    "pair_a": 40,
    "pair_b": 40,
    "head": 5000,
}
BASE = {
    "embeddings": {"default": {"method": "full_table", "embedding_dim": 16}},
    "model": {"name": "dcn_v2", "num_cross_layers": 1, "hidden_dims": [64]},
    "train": {
        "epochs": 10,
        "plateau_factor": 0.2,
        "early_stopping_patience": 2,
        "dense_optimizer": {"name": "adam", "learning_rate": 1.0e-3},
        "embedding_optimizer": {
            "name": "rowwise_adagrad",
            "learning_rate": 0.1,
            "eps": 1.0e-3,
            "l2": 5.0e-4,
        },
    },
}
SEARCHES = {
    "optembed": [
        "embeddings.default.method=optembed",
        "search={name: optembed, threshold_learning_rate: 0.05, regularizer: 0.001}",
        "search.budget_share=0.25",
    ],
    "optembed_rows": [
        "embeddings.default={method: optembed, embedding_dim: 16, variant: rows}",
        "search={name: optembed, threshold_learning_rate: 0.05, regularizer: 0.0015}",
        "search.budget_share=0.25",
    ],
    "dnis": [
        "embeddings.default={method: dnis, embedding_dim: 16, bands: [0.04, 0.16, 0.8]}",
        "search={name: dnis, warm_up_steps: 400, budget_share: 0.25, tolerance: 0.0002}",
    ],
}


def write_planted(folder: Path, seed: int) -> None:
    """Writes the prepared dataset."""
    rng = np.random.default_rng([seed, 1])
    weights = {
        name: rng.normal(0.0, 0.7, size)
        for name, size in CARDINALITIES.items()
        if name.startswith("weight") or name == "head"
    }
    weights["head"][HEAD_IDS:] = 0.0
    hidden = {n: rng.normal(0.0, 0.8, (CARDINALITIES[n], HIDDEN)) for n in ("pair_a", "pair_b")}
    tables = {split: planted_rows(rng, rows, weights, hidden) for split, rows in ROWS.items()}
    for name, size in CARDINALITIES.items():
        write_vocabulary(folder, name, size, tables["train"][name].to_numpy())
    features = [
        Feature(
            name=name,
            kind="categorical",
            column=name,
            encoding=VocabularyEncoding(file=f"vocabularies/{name}.parquet"),
            cardinality=size,
        )
        for name, size in CARDINALITIES.items()
    ]
    write_dataset(folder, features, {s: [t] for s, t in tables.items()}, row_group_rows=20_000)


def planted_rows(rng, rows, weights, hidden):
    """Ids with Zipf frequencies, 0 the most frequent; labels from the planted logits."""
    ids = {}
    for name, size in CARDINALITIES.items():
        drawn = np.exp(rng.random(rows) * np.log(size + 1)).astype(np.int64) - 1
        ids[name] = drawn.clip(0, size - 1).astype(np.int32)
    logits = -1.0 + sum(weights[name][ids[name]] for name in weights)
    logits = logits + (hidden["pair_a"][ids["pair_a"]] * hidden["pair_b"][ids["pair_b"]]).sum(1)
    label = (rng.random(rows) < 1 / (1 + np.exp(-logits))).astype(np.int8)
    return pl.DataFrame({**ids, "label": label}).to_arrow()


def config_file(folder: Path, name: str, dataset: Path, *overrides: str) -> Path:
    path = folder / f"{name}.yaml"
    content = {"data": {"path": str(dataset), "global_batch_size": 1024}, **BASE}
    path.write_text(yaml.safe_dump(apply_overrides(content, overrides)))
    return path


def scores(config: RunConfig, run: Path) -> dict:
    found = train_and_score(config, run)
    return {key: found[key] for key in ("test_auc", "serve_bytes")}


def one_seed(folder: Path, seed: int, names: list[str]) -> dict:
    dataset = folder / "data"
    write_planted(dataset, seed)
    with_seed = [f"train.seed={seed}"]
    plain = load_config(config_file(folder, "full", dataset, *with_seed))
    results = {"full table": scores(plain, folder / "full")}
    for name in names:
        path = config_file(folder, name, dataset, *SEARCHES[name], *with_seed)
        out = folder / f"search_{name}"
        allocation = search(load_config(path), out)
        found = json.loads(allocation.read_text())
        small = load_config(path, [f"embeddings.allocation={allocation}"])
        results[name] = {
            **scores(small, folder / f"retrained_{name}"),
            "supernet_valid_auc": found["supernet"]["auc"],
            "chosen_valid_auc": found["chosen"]["auc"],
            "features": {
                feature: {"kept_rows": f["kept_rows"], "dims": f["dims"], "bytes": f["bytes"]}
                for feature, f in found["features"].items()
            },
        }
        print(json.dumps({"seed": seed, name: results[name]}), flush=True)
    return results


def to_markdown(results: dict[str, dict]) -> str:
    seeds = list(results.values())
    full = statistics.mean(r["full table"]["serve_bytes"] for r in seeds)
    rows = []
    for name in seeds[0]:
        aucs = [r[name]["test_auc"] for r in seeds]
        size = statistics.mean(r[name]["serve_bytes"] for r in seeds)
        std = statistics.stdev(aucs) if len(aucs) > 1 else 0.0
        auc = f"{statistics.mean(aucs):.5f} ({std:.5f})"
        useless = "–" if name == "full table" else f"{useless_bytes(seeds, name):,.0f}"
        rows.append([name, auc, f"{size:,.0f}, {100 * size / full:.1f} %", useless])
    heads = ["", "test AUC, mean (std)", "bytes, share of full", "useless features' bytes"]
    return f"{table(heads, rows)}\n\n{kept_ids(seeds)}"


def useless_bytes(seeds: list[dict], name: str) -> float:
    """Bytes that a search leaves to the useless features, mean of the seeds."""
    return statistics.mean(
        sum(f["bytes"] for n, f in r[name]["features"].items() if n.startswith("useless"))
        for r in seeds
    )


def kept_ids(seeds: list[dict]) -> str:
    """A table of kept rows and mean columns of a kept row, of each feature."""
    names = [name for name in seeds[0] if name != "full table"]
    rows = []
    for feature, size in CARDINALITIES.items():
        cells = []
        for name in names:
            found = [r[name]["features"][feature] for r in seeds]
            kept = statistics.mean(f["kept_rows"] for f in found)
            dims = [statistics.mean(f["dims"]) for f in found if f["kept_rows"] and f["dims"]]
            cells.append(f"{kept:,.0f} × {statistics.mean(dims) if dims else 0:.1f}")
        rows.append([feature, f"{size:,}", *cells])
    return table(["ids kept × their columns, mean of the seeds", "ids", *names], rows)


def main() -> None:
    parser = harness.parser(__doc__, seeds=(0,))
    parser.add_argument("--methods", nargs="+", default=list(SEARCHES))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results = {}
    for seed in arguments.seeds:
        with tempfile.TemporaryDirectory() as folder:
            results[str(seed)] = one_seed(Path(folder), seed, arguments.methods)
    harness.report(arguments, results, to_markdown(results))


if __name__ == "__main__":
    main()
