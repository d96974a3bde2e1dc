"""What do the shipped configs of mixed embedding methods save, and what do they cost in AUC?

    python -m benchmarks.quality.mixed_methods --work DIR [--only criteo_kaggle]

For each `configs/*/mixed_methods.yaml`: the run as shipped, beside the same run with full tables of
16 columns for every feature; 3 seeds of both, on the real samples (Criteo and Avazu: random rows;
Taobao: the last click of each user is test, the one before valid). Differences are paired: the same
rows and seed, by DeLong; over the seeds by Student's t. The configs were chosen by valid AUC at
seed 0, which is not reported.
"""

import json
from itertools import product
from pathlib import Path

import torch

from benchmarks import harness
from benchmarks.runs import RunLog, train_and_score
from benchmarks.samples import describe, prepared
from benchmarks.tables import by_seed, mean_std, paired, table
from recsys.config.base import validate
from recsys.config.run import RunConfig
from recsys.config.yaml_files import apply_overrides, read_yaml
from recsys.reports.compare import compare_runs

DATA = ("criteo_kaggle", "avazu", "taobao")
MIXED, FULL = "mixed methods", "full tables"
FULL_TABLE = {
    "method": "full_table",
    "embedding_dim": 16,
    "init": {"distribution": "normal", "std": 1.0e-2},
}


def run_config(data: str, embeddings: str, seed: int, work: Path) -> RunConfig:
    """The shipped config; with full tables, only its `embeddings` differ."""
    content = read_yaml(harness.CONFIGS / data / "mixed_methods.yaml")
    if embeddings == FULL:
        key = "shares_table_with"
        entries = content["embeddings"].get("features", {}).items()
        shared = {name: {key: entry[key]} for name, entry in entries if key in entry}
        content["embeddings"] = {"default": FULL_TABLE, "features": shared}
        if content["model"]["name"] == "dare":
            content["embeddings"]["roles"] = {"search": {"default": FULL_TABLE}}
    overrides = [f"data.path={prepared(data, work)}", f"train.seed={seed}", "train.device=cpu"]
    return validate(RunConfig, apply_overrides(content, overrides), f"{data}, {embeddings}")


def run_folder(data: str, embeddings: str, seed: int, work: Path) -> Path:
    return work / "runs" / f"{data}-{embeddings}-{seed}".replace(" ", "_")


def difference(data: str, seed: int, work: Path) -> dict:
    """Test AUC with mixed methods less that with full tables, on the same rows."""
    folders = [run_folder(data, embeddings, seed, work) for embeddings in (FULL, MIXED)]
    test = compare_runs(*folders)
    return {"seed": seed, "difference": test.difference, "ci95": test.ci95, "p": test.p_value}


def to_markdown(groups: dict[str, dict], apart: dict[str, list[dict]], work: Path) -> str:
    rows = []
    for data, differences in apart.items():
        full = groups[f"{data}, {FULL}"]["serve_bytes"][0]
        each = ", ".join(f"{d['difference']:+.4f} ({d['p']:.2f})" for d in differences)
        compared = [paired([d["difference"] for d in differences]), each]
        for embeddings in (FULL, MIXED):
            group = groups[f"{data}, {embeddings}"]
            size = group["serve_bytes"][0]
            rows.append(
                [data, embeddings, f"{size:,}", f"{100 * size / full:.1f}"]
                + [mean_std(group[name]) for name in ("valid_auc", "test_auc")]
                + (compared if embeddings == MIXED else ["–", "–"])
            )
    heads = ["data", "embeddings", "bytes to serve", "%", "valid AUC", "test AUC"]
    heads += ["difference ± Student's 95 %", "by seed (DeLong's p)"]
    samples = "\n".join(f"- {data}: {describe(work / data)}" for data in apart)
    return "\n\n".join([table(heads, rows), samples, *(methods(d, work) for d in apart)])


def methods(data: str, work: Path) -> str:
    """The features of each method, their ids and bytes."""
    runs = sorted((work / "runs").glob(f"{data}-{MIXED.replace(' ', '_')}-*"))
    features = json.loads((runs[0] / "report.json").read_text())["embeddings"]["features"]
    by_method: dict[str, dict[str, dict]] = {}
    for name, facts in features.items():
        by_method.setdefault(facts["method"], {})[name] = facts
    rows = [
        [
            method,
            ", ".join(found),
            f"{sum(facts['cardinality'] for facts in found.values()):,}",
            f"{sum(facts['serve_bytes'] for facts in found.values()):,}",
        ]
        for method, found in by_method.items()
    ]
    return f"**{data}**\n\n{table(['method', 'features', 'ids', 'bytes to serve'], rows)}"


def main() -> None:
    parser = harness.parser(__doc__, seeds=(1, 2, 3), work="required")
    parser.add_argument("--only", nargs="+", choices=DATA, default=list(DATA))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    work = arguments.work.resolve()
    log = RunLog(work / "runs.jsonl", ("data", "embeddings", "seed"))
    for data, seed, embeddings in product(arguments.only, arguments.seeds, (FULL, MIXED)):
        if log.find(data, embeddings, seed) is None:
            config = run_config(data, embeddings, seed, work)
            found = train_and_score(config, run_folder(data, embeddings, seed, work))
            log.add((data, embeddings, seed), found)
    apart = {d: [difference(d, seed, work) for seed in arguments.seeds] for d in arguments.only}
    kept = ("serve_bytes", "valid_auc", "test_auc", "test_log_loss", "epochs")
    groups = by_seed(
        [run for run in log.runs if run["seed"] in arguments.seeds], ("data", "embeddings"), kept
    )
    figures = {"runs": groups, "mixed_less_full": apart}
    harness.report(arguments, figures, to_markdown(groups, apart, work))


if __name__ == "__main__":
    main()
