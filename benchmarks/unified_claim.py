"""Does one shared table beat a hash table for each feature at equal bytes, as its paper says?

    python -m benchmarks.unified_claim --work DIR

Unified Embedding (Coleman et al. 2023, table 1), DCN-V2, two real samples: the committed config,
`hashed` with rows in proportion to cardinality against `unified`, at the full tables' bytes, ÷2,
÷10 and ÷100. Neither keeps small features exact. Runs are those of `embedding_budgets` in the same
DIR where there are any. Nothing is chosen.
"""

import argparse
import statistics
from pathlib import Path

import torch

from benchmarks.budget_methods import FULL, HASHED, SHARED, SHARED_TWO
from benchmarks.budget_runs import Runs, Task
from benchmarks.record import write_record

SHARES = (1.0, 0.5, 0.1, 0.01)
DATASETS = ("movielens_1m", "criteo_kaggle")
# The paper's AUC at its table sizes: per-feature hash, one shared table (as a reproduction of it
# quotes them). Its tables were never as small as 1 %.
PAPER = {
    "movielens_1m": {1.0: (0.8537, 0.8774), 0.5: (0.8300, 0.8693), 0.1: (0.7707, 0.8200)},
    "criteo_kaggle": {1.0: (0.8021, 0.8043), 0.5: (0.7998, 0.8047), 0.1: (0.7944, 0.8049)},
}


def tasks(seeds: list[int]) -> list[Task]:
    wanted = [(FULL, 1.0), *((m, s) for m in (HASHED, SHARED, SHARED_TWO) for s in SHARES)]
    return [
        Task(dataset, "dcn_v2", method, share, seed)
        for dataset in DATASETS
        for method, share in wanted
        for seed in seeds
    ]


def mean_std(values: list[float], sign: str = "") -> str:
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):{sign}.4f} ± {spread:.4f}"


def to_markdown(runs: Runs, datasets: list[str], seeds: list[int]) -> str:
    lines = []
    for dataset in datasets:
        aucs = {t: runs.done[t].get("test_auc") for t in tasks(seeds) if t.dataset == dataset}

        def of(method: str, share: float, known: dict = aucs, name: str = dataset) -> list[float]:
            return [known[Task(name, "dcn_v2", method, share, seed)] for seed in seeds]

        full = runs.full_bytes(dataset)
        lines += ["", f"**{dataset}**: full tables {full / 1e6:.2f} MB, {mean_std(of(FULL, 1.0))}"]
        lines += ["", "| bytes | hash per feature | one shared table | difference, by seed "]
        lines[-1] += "| shared, 2 chunks | the paper: hash, shared, difference |"
        lines.append("|---" * 6 + "|")
        for share in SHARES:
            hashed, shared = of(HASHED, share), of(SHARED, share)
            differences = [b - a for a, b in zip(hashed, shared, strict=True)]
            paper = PAPER[dataset].get(share)
            quoted = "{:.4f}, {:.4f}, {:+.4f}".format(*paper, paper[1] - paper[0]) if paper else "–"
            cells = [
                f"÷{1 / share:.0f}, {share * full / 1e3:,.0f} kB",
                mean_std(hashed),
                mean_std(shared),
                f"**{mean_std(differences, '+')}**",
                mean_std(of(SHARED_TWO, share)),
                quoted,
            ]
            lines.append("| " + " | ".join(cells) + " |")
    lines += ["", "The paper's rows, sizes and splits are others: compare differences, not AUCs."]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--datasets", nargs="+", default=list(DATASETS))
    parser.add_argument("--no-record", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    runs = Runs(arguments.work)
    wanted = [t for t in tasks(arguments.seeds) if t.dataset in arguments.datasets]
    runs.do(wanted)
    text = to_markdown(runs, arguments.datasets, arguments.seeds)
    print(text)
    if not arguments.no_record:
        found = {"runs": [runs.done[task] for task in wanted]}
        print(write_record("unified_claim", found, text))


if __name__ == "__main__":
    main()
