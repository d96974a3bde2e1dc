"""What AUC does each embedding method reach per megabyte, on the same rows with the same model?

    python -m benchmarks.quality.embedding_budgets --work DIR --models dcn_v2 autoint

Real Criteo rows, the committed configs, only `embeddings` differs. Every method gets the largest
setting whose serving bytes (as `recsys.embeddings.memory` counts them) are within a share of the
full table's. `hashed`, one shared table (`unified`) and a plain smaller dimension are the cheap
baselines. The searches take the settings of the committed configs: one supernet for each seed, a
choice on valid for each share, trained anew from the supernet's initial weights; they may choose
less than the share. Finished runs are kept in DIR/runs.jsonl and not repeated; the record holds all
of them, whoever wins. Every setting was there before; nothing is chosen by these test AUCs.
"""

import argparse
import statistics
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch

from benchmarks.quality.budget_methods import FULL, METHODS, SEARCHES
from benchmarks.quality.budget_picture import write_picture
from benchmarks.quality.budget_runs import Runs, Task
from benchmarks.record import write_record
from benchmarks.seed_intervals import paired

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
        lines += ["", f"**{model}**, test AUC, mean ± standard deviation over seeds", ""]
        lines += table(mine, full_bytes, auc_text)
        lines += ["", "What they take of the full table's bytes, %:", ""]
        lines += table(mine, full_bytes, partial(bytes_text, full_bytes))
        full = {run["seed"]: run["test_auc"] for run in mine
                if (run["method"], run["share"]) == (FULL, 1.0)}  # fmt: skip
        lines += ["", "Test AUC less the full table's of the same seed, mean ± Student's 95 %:", ""]
        lines += table(mine, full_bytes, partial(difference_text, full))
    commits = ", ".join(sorted({run["commit"] for run in runs if "commit" in run}))
    lines += ["", f"3 seeds where no other number stands. The runs' commits: {commits}."]
    return "\n".join(lines)


def table(runs: list[dict], full_bytes: int, text: Callable[[list[dict]], str]) -> list[str]:
    shares = sorted({run["share"] for run in runs}, reverse=True)
    heads = [f"{share:.0%} ({share * full_bytes / 1e6:.2f} MB)" for share in shares]
    lines = ["| method | " + " | ".join(heads) + " |", "|---" * (1 + len(shares)) + "|"]
    for method in (name for name in (*METHODS, *SEARCHES) if name in {r["method"] for r in runs}):
        cells = [[r for r in runs if (r["method"], r["share"]) == (method, s)] for s in shares]
        lines.append(f"| {method} | " + " | ".join(map(text, cells)) + " |")
    return lines


def auc_text(cell: list[dict]) -> str:
    found = [run for run in cell if "test_auc" in run]
    if not found:
        return "none so small" if cell else "not run"
    aucs = [run["test_auc"] for run in found]
    spread = f" ± {statistics.stdev(aucs):.4f}" if len(aucs) > 1 else ""
    seeds = f" ({len(found)} of 3 seeds)" if len(found) < 3 else ""
    return f"{statistics.mean(aucs):.4f}{spread}{seeds}"


def difference_text(full: dict[int, float], cell: list[dict]) -> str:
    found = [run["test_auc"] - full[run["seed"]] for run in cell if "test_auc" in run]
    return paired(found) if found else "–"


def bytes_text(full_bytes: int, cell: list[dict]) -> str:
    """The bytes; and whose config it is, where a larger share chose the same."""
    found = [run for run in cell if "test_auc" in run]
    if not found:
        return "–"
    same = {run["same_as_share"] for run in found if "same_as_share" in run}
    is_same = all("same_as_share" in run for run in found)
    size = statistics.mean(run["serve_bytes"] for run in found)
    note = f", as at {max(same):.0%}" if is_same else ""
    return f"{100 * size / full_bytes:.3g}{note}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--models", nargs="+", default=["dcn_v2"])
    parser.add_argument("--methods", nargs="+", default=[*METHODS, *SEARCHES])
    parser.add_argument("--shares", nargs="+", type=float, default=list(SHARES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--as-is", action="store_true", help="runs nothing, records what is there")
    parser.add_argument("--no-record", action="store_true")
    arguments = parser.parse_args()
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
    text = to_markdown(found, full_bytes)
    print(text)
    if not arguments.no_record:
        record = write_record("embedding_budgets", {"full_bytes": full_bytes, "runs": found}, text)
        for model in dict.fromkeys(run["model"] for run in found):
            mine = [run for run in found if run["model"] == model]
            write_picture(mine, full_bytes, record.with_name(f"{record.stem}_{model}.svg"))
        print(record)


if __name__ == "__main__":
    main()
