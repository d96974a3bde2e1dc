"""Does one shared table beat a hash table for each feature at equal bytes, as its paper says?

    python -m benchmarks.quality.unified_claim --work DIR

Unified Embedding (Coleman et al. 2023, table 1), DCN-V2, two real samples: the committed config,
`hashed` with rows in proportion to cardinality against `unified`, at the full tables' bytes, ÷2,
÷10 and ÷100. Both without and with full tables for the features of few ids, as the paper has them:
hashed by cardinality, a feature of 4 ids has one row at ÷10. Runs of `embedding_budgets` in the
same DIR are used again. Nothing is chosen by these results.
"""

import torch

from benchmarks import harness
from benchmarks.quality.budget_methods import (
    FULL,
    HASHED,
    HASHED_EXACT,
    SHARED,
    SHARED_EXACT,
    SMALL,
)
from benchmarks.quality.budget_runs import Runs, Task, parser
from benchmarks.tables import by_seed, mean_std, table

SHARES = (1.0, 0.5, 0.1, 0.01)
DATASETS = ("movielens_1m", "criteo_kaggle")
PAIRS = {
    "all features hashed": (HASHED, SHARED),
    f"features of ≤ {SMALL} ids exact in both": (HASHED_EXACT, SHARED_EXACT),
}
# The paper's AUC at its table sizes: per-feature hash, one shared table (as a reproduction of it
# quotes them). Its tables were never as small as 1 %.
PAPER = {
    "movielens_1m": {1.0: (0.8537, 0.8774), 0.5: (0.8300, 0.8693), 0.1: (0.7707, 0.8200)},
    "criteo_kaggle": {1.0: (0.8021, 0.8043), 0.5: (0.7998, 0.8047), 0.1: (0.7944, 0.8049)},
}


def tasks(seeds: list[int]) -> list[Task]:
    methods = [method for pair in PAIRS.values() for method in pair]
    wanted = [(FULL, 1.0), *((method, share) for method in methods for share in SHARES)]
    return [
        Task(dataset, "dcn_v2", method, share, seed)
        for dataset in DATASETS
        for method, share in wanted
        for seed in seeds
    ]


def to_markdown(runs: Runs, datasets: list[str], seeds: list[int]) -> str:
    parts = []
    for dataset in datasets:
        full = runs.full_bytes(dataset)
        score = mean_std([*aucs(runs, dataset, FULL, 1.0, seeds).values()], none="not run")
        parts.append(f"**{dataset}**: full tables {full / 1e6:.2f} MB, {score}")
        rows: list[list[str]] = []
        for words, pair in PAIRS.items():
            rows.append([f"*{words}*", "", "", "", ""])
            rows += [line(runs, dataset, pair, share, seeds) for share in SHARES]
        heads = ["bytes", "hash per feature", "one shared table", "difference, by seed"]
        parts.append(table([*heads, "the paper: hash, shared, difference"], rows))
    parts.append("The paper's rows, sizes and splits differ: compare differences, not AUCs.")
    return "\n\n".join(parts)


def line(
    runs: Runs, dataset: str, pair: tuple[str, str], share: float, seeds: list[int]
) -> list[str]:
    hashed, shared = (aucs(runs, dataset, method, share, seeds) for method in pair)
    differences = [shared[seed] - hashed[seed] for seed in shared if seed in hashed]
    paper = PAPER[dataset].get(share)
    return [
        f"÷{1 / share:.0f}, {share * runs.full_bytes(dataset) / 1e3:,.0f} kB",
        mean_std([*hashed.values()], none="not run"),
        mean_std([*shared.values()], none="not run"),
        f"**{mean_std(differences, sign='+')}**" if differences else "not run",
        "{:.4f}, {:.4f}, {:+.4f}".format(*paper, paper[1] - paper[0]) if paper else "–",
    ]


def aucs(runs: Runs, dataset: str, method: str, share: float, seeds: list[int]) -> dict[int, float]:
    """By seed, as far as they were run."""
    tasks = {seed: Task(dataset, "dcn_v2", method, share, seed) for seed in seeds}
    found = {seed: runs.done.get(task, {}).get("test_auc") for seed, task in tasks.items()}
    return {seed: auc for seed, auc in found.items() if auc is not None}


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--datasets", nargs="+", default=list(DATASETS))
    arguments = options.parse_args()
    torch.set_num_threads(1)
    runs = Runs(arguments.work)
    wanted = [t for t in tasks(arguments.seeds) if t.dataset in arguments.datasets]
    if not arguments.as_is:
        runs.do(wanted)
    found = [runs.done[task] for task in wanted if task in runs.done]
    figures = by_seed(found, ("dataset", "method", "share"), ("serve_bytes", "test_auc"))
    harness.report(arguments, figures, to_markdown(runs, arguments.datasets, arguments.seeds))


if __name__ == "__main__":
    main()
