"""Do tables found by OptEmbed and DNIS, retrained, score no less than full tables?

    python -m benchmarks.quality.search_claim --work DIR

Criteo sample, AutoInt and DCN-V2 with the committed searches. For each seed the retrained model
against the full table of the same seed, on the same test rows, with DeLong's p-value. Runs of
`embedding_budgets` in the same DIR are used again. The committed searches ask for a share of 25 %;
all settings were chosen on valid. The other shares are shown too: none is selected by its result.
"""

import statistics
from collections.abc import Iterator

import torch

from benchmarks import harness
from benchmarks.quality.budget_methods import FULL
from benchmarks.quality.budget_runs import Runs, Task, parser
from benchmarks.tables import by_seed, mean_std, paired, table
from recsys.reports.compare import compare_runs

DATASET = "criteo_kaggle"
SHARES = {"dcn_v2": (1.0, 0.5, 0.25, 0.1, 0.05, 0.01), "autoint": (0.25, 0.05)}
SEARCHED = ("optembed", "dnis", "dnis, to the budget")


def tasks(seeds: list[int]) -> Iterator[Task]:
    for model, shares in SHARES.items():
        yield from (Task(DATASET, model, FULL, 1.0, seed) for seed in seeds)
        for method in SEARCHED:
            for share in shares:
                yield from (Task(DATASET, model, method, share, seed) for seed in seeds)


def compare(runs: Runs, task: Task) -> dict:
    """The facts of a searched run, and its test against the full table of the same seed."""
    full = runs.folder(task._replace(method=FULL, share=1.0))
    test = compare_runs(full, runs.folder(task))
    return {
        **runs.done[task],
        "full_table_auc": test.auc_a,
        "difference": test.difference,
        "difference_ci95": list(test.ci95),
        "p_value": test.p_value,
    }


def to_markdown(found: list[dict], full_bytes: int) -> str:
    rows = []
    for (model, method), shares in by_search(found).items():
        for budgets, mine in alike(shares):
            differences = [run["difference"] for run in mine]
            size = statistics.mean(run["serve_bytes"] for run in mine)
            rows.append(
                [
                    f"{model}, {method}",
                    ", ".join(f"{100 * share:g}" for share in budgets),
                    f"{100 * size / full_bytes:.1f}",
                    mean_std([run["full_table_auc"] for run in mine]),
                    mean_std([run["test_auc"] for run in mine]),
                    f"{paired(differences)} ({', '.join(f'{d:+.4f}' for d in differences)})",
                    ", ".join(f"{run['p_value']:.2f}" for run in mine),
                ]
            )
    heads = ["model, search", "budget, %", "bytes, %", "full table", "retrained"]
    heads += ["difference ± Student's 95 % (each seed)", "DeLong's p, each seed"]
    return table(heads, rows)


def by_search(found: list[dict]) -> dict[tuple[str, str], dict[float, list[dict]]]:
    """(model, method) → budget → the runs of all seeds."""
    groups: dict[tuple[str, str], dict[float, list[dict]]] = {}
    for run in found:
        shares = groups.setdefault((run["model"], run["method"]), {})
        shares.setdefault(run["share"], []).append(run)
    return groups


def alike(shares: dict[float, list[dict]]) -> list[tuple[list[float], list[dict]]]:
    """Budgets for which every seed chose the same, and the runs of one of them."""
    groups: dict[tuple[str, ...], tuple[list[float], list[dict]]] = {}
    for share, runs in shares.items():
        groups.setdefault(tuple(run["choice"] for run in runs), ([], runs))[0].append(share)
    return list(groups.values())


def main() -> None:
    arguments = parser(__doc__).parse_args()
    torch.set_num_threads(1)
    runs = Runs(arguments.work)
    wanted = list(tasks(arguments.seeds))
    if not arguments.as_is:
        runs.do(wanted)
    found = [
        compare(runs, task)
        for task in wanted
        if task.method in SEARCHED and "test_auc" in runs.done.get(task, {})
    ]
    figures = ("serve_bytes", "full_table_auc", "test_auc", "difference", "p_value")
    grouped = by_seed(found, ("model", "method", "share"), figures)
    harness.report(arguments, grouped, to_markdown(found, runs.full_bytes(DATASET)))


if __name__ == "__main__":
    main()
