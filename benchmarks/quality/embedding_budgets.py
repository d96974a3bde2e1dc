"""What AUC does each embedding method reach per megabyte, with the same rows and model?

    python -m benchmarks.quality.embedding_budgets --work DIR --models dcn_v2 autoint

Real Criteo rows, the committed configs, only `embeddings` differs. Every method gets the largest
setting whose serving bytes (as `recsys.embeddings.memory` counts them) are within a share of the
full table's. `hashed`, one shared table (`unified`) and a plain smaller dimension are the cheap
baselines. The searches take the settings of the committed configs: one supernet for each seed, a
choice on valid for each share, retrained from the supernet's initial weights; they may choose less
than the share. Finished runs are kept in DIR/runs.jsonl and not repeated; the record has all of
them. All settings were fixed before; nothing is chosen by these test AUCs.
"""

import argparse
import statistics
from collections.abc import Callable, Iterator
from functools import partial

import torch

from benchmarks import harness
from benchmarks.quality.budget_methods import FULL, METHODS, SEARCHES
from benchmarks.quality.budget_picture import write_picture
from benchmarks.quality.budget_runs import Runs, Task, parser
from benchmarks.tables import by_seed, paired, table

SHARES = (1.0, 0.5, 0.25, 0.1, 0.05, 0.01)
DATASET = "criteo_kaggle"


def tasks(arguments: argparse.Namespace) -> Iterator[Task]:
    """The full table first: all are compared with it."""
    for model in arguments.models:
        yield from (Task(DATASET, model, FULL, 1.0, seed) for seed in arguments.seeds)
        for share in arguments.shares:
            for method in arguments.methods:
                yield from (Task(DATASET, model, method, share, s) for s in arguments.seeds)


def to_markdown(runs: list[dict], full_bytes: int) -> str:
    lines = []
    for model in dict.fromkeys(run["model"] for run in runs):
        mine = [run for run in runs if run["model"] == model]
        full = {run["seed"]: run["test_auc"] for run in mine
                if (run["method"], run["share"]) == (FULL, 1.0)}  # fmt: skip
        lines += [
            f"**{model}**, test AUC, mean ± standard deviation over seeds",
            by_share(mine, full_bytes, auc_text),
            "Their share of the full table's bytes, %:",
            by_share(mine, full_bytes, partial(bytes_text, full_bytes)),
            "Test AUC less the full table's of the same seed, mean ± Student's 95 %:",
            by_share(mine, full_bytes, partial(difference_text, full)),
        ]
    commits = ", ".join(sorted({run["commit"] for run in runs if "commit" in run}))
    lines.append(f"3 seeds unless another number is given. The runs' commits: {commits}.")
    return "\n\n".join(lines)


def by_share(runs: list[dict], full_bytes: int, text: Callable[[list[dict]], str]) -> str:
    """A row for each method, a column for each share of the full tables' bytes."""
    shares = sorted({run["share"] for run in runs}, reverse=True)
    heads = [f"{share:.0%} ({share * full_bytes / 1e6:.2f} MB)" for share in shares]
    methods = [name for name in (*METHODS, *SEARCHES) if name in {r["method"] for r in runs}]
    rows = [
        [method, *(text([r for r in runs if (r["method"], r["share"]) == (method, share)])
                   for share in shares)]
        for method in methods
    ]  # fmt: skip
    return table(["method", *heads], rows)


def auc_text(cell: list[dict]) -> str:
    found = [run for run in cell if "test_auc" in run]
    if not found:
        return "none that small" if cell else "not run"
    aucs = [run["test_auc"] for run in found]
    spread = f" ± {statistics.stdev(aucs):.4f}" if len(aucs) > 1 else ""
    seeds = f" ({len(found)} of 3 seeds)" if len(found) < 3 else ""
    return f"{statistics.mean(aucs):.4f}{spread}{seeds}"


def difference_text(full: dict[int, float], cell: list[dict]) -> str:
    found = [run["test_auc"] - full[run["seed"]] for run in cell if "test_auc" in run]
    return paired(found) if found else "–"


def bytes_text(full_bytes: int, cell: list[dict]) -> str:
    """The bytes, and the larger share if it chose the same config."""
    found = [run for run in cell if "test_auc" in run]
    if not found:
        return "–"
    same = {run["same_as_share"] for run in found if "same_as_share" in run}
    is_same = all("same_as_share" in run for run in found)
    size = statistics.mean(run["serve_bytes"] for run in found)
    note = f", as at {max(same):.0%}" if is_same else ""
    return f"{100 * size / full_bytes:.3g}{note}"


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--models", nargs="+", default=["dcn_v2"])
    options.add_argument("--methods", nargs="+", default=[*METHODS, *SEARCHES])
    options.add_argument("--shares", nargs="+", type=float, default=list(SHARES))
    arguments = options.parse_args()
    torch.set_num_threads(1)
    runs = Runs(arguments.work)
    if not arguments.as_is:
        runs.do(tasks(arguments))
    full_bytes = runs.full_bytes(DATASET)
    found = [
        facts
        for task, facts in runs.done.items()
        if task.dataset == DATASET and task.share in SHARES
    ]
    figures = by_seed(found, ("model", "method", "share"), ("serve_bytes", "valid_auc", "test_auc"))
    text = to_markdown(found, full_bytes)
    record = harness.report(arguments, {"full_bytes": full_bytes, "runs": figures}, text)
    for model in dict.fromkeys(run["model"] for run in found) if record else ():
        mine = [run for run in found if run["model"] == model]
        write_picture(mine, full_bytes, record.with_name(f"{record.stem}_{model}.svg"))


if __name__ == "__main__":
    main()
