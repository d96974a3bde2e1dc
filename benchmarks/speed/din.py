"""How many samples a second does a training step of DIN process: ours, FuxiCTR's, by history?

    python -m benchmarks.speed.din --peer-python FUXICTR_ENV/bin/python --checkout FUXICTR

Generated rows: user, item, category, histories of items and categories in the targets' tables,
100,000 users, 400,000 items, 9,439 categories, dim 16, batch 1024. Full histories of 50 and of 100,
and lengths of 10 on average where 100 are allowed. Ours is `recsys.training.train` from Parquet,
FuxiCTR its own `train_epoch` and loader on the same rows, padded; each run is a process of its own,
all contenders run in every round, the median over rounds counts.
"""

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks import harness
from benchmarks.generated import HISTORIES, PAIR, lists_of, write_history_dataset
from benchmarks.speed.training import KEEP_MEMORY, samples_per_second
from benchmarks.speed.training_contenders import DIN_BATCH_SIZE as BATCH_SIZE
from benchmarks.tables import table

CARDINALITIES = {"user": 100_001, "item": 400_001, "category": 9_440}
# name → (longest history, mean length); full where both are the same
LENGTHS = {"50": (50, 50), "100": (100, 100), "10 of 100": (100, 10)}
FULL, SHORT = "100", "10 of 100"
WARM_UP_STEPS = 5
CONTENDERS = ("ours", "fuxictr", "fuxictr_kept_memory")
ASKED_RATIO, ASKED_COST = 2.2, 0.35


def draw_ids(rng: np.random.Generator, cardinality: int, size: int) -> np.ndarray:
    """From 1, the popularity of an id falling as 1/id."""
    drawn = np.exp(rng.random(size) * np.log(cardinality)).astype(np.int32)
    return np.minimum(drawn, cardinality - 1)


def draw_rows(rows: int, max_length: int, mean_length: int) -> pa.Table:
    rng = np.random.default_rng(7)
    lengths = np.full(rows, max_length)
    if mean_length < max_length:
        lengths = np.minimum(rng.exponential(mean_length + 0.5, rows).astype(int), max_length)
    sizes = {name: CARDINALITIES[target] for name, target in HISTORIES.items()}
    columns = {name: draw_ids(rng, size, rows) for name, size in CARDINALITIES.items()}
    for name, size in sizes.items():
        columns[name] = lists_of(draw_ids(rng, size, int(lengths.sum())), lengths)
    return pa.table({**columns, "label": (rng.random(rows) < 0.3).astype(np.int8)})


def write_rows(folder: Path, name: str, steps: int) -> Path:
    splits = {
        split: [draw_rows(rows, *LENGTHS[name])]
        for split, rows in (("train", (steps + 1) * BATCH_SIZE), ("valid", BATCH_SIZE))
    }
    return write_history_dataset(
        folder / name.replace(" ", "_"), CARDINALITIES, LENGTHS[name][0], splits
    )


def our_command(arguments: argparse.Namespace, data: Path) -> list[object]:
    command = [sys.executable, "-m", "benchmarks.speed.training_contenders", "din", "--data", data]
    command += ["--activation", arguments.activation]
    return [*command, "--steps", arguments.steps, "--threads", arguments.threads]


def peer_command(arguments: argparse.Namespace, data: Path) -> list[object]:
    """FuxiCTR's own settings, without L2, as ours."""
    settings = {
        "batch_size": BATCH_SIZE,
        "embedding_regularizer": None,
        "attention_hidden_activations": {"relu": "ReLU", "dice": "Dice"}[arguments.activation],
    }
    script = harness.PEERS / "fuxictr_din_train.py"
    command = [arguments.peer_python, script, "--checkout", arguments.checkout, "--throughput"]
    command += ["--data", data, "--work", arguments.work / data.name, "--set", json.dumps(settings)]
    command += ["--features", *CARDINALITIES, *HISTORIES, "--pairs", json.dumps([PAIR])]
    command += ["--workers", arguments.peer_workers, "--threads", arguments.threads]
    steps = arguments.steps - WARM_UP_STEPS
    return [*command, "--warmup-steps", WARM_UP_STEPS, "--steps", steps]


def contenders(
    arguments: argparse.Namespace, data: dict[str, Path]
) -> dict[str, Callable[[], float]]:
    """length/contender → one run of it, in samples/s."""
    found: dict[str, Callable[[], float]] = {}
    for length, folder in data.items():
        peer = peer_command(arguments, folder)
        runs = {
            "ours": (our_command(arguments, folder), {}),
            "fuxictr": (peer, {}),
            "fuxictr_kept_memory": (peer, KEEP_MEMORY),
        }
        for name, (command, environment) in runs.items():
            found[f"{length}/{name}"] = partial(
                samples_per_second, command, arguments.threads, environment
            )
    return found


def median_ratio(numerators: list[float], denominators: list[float]) -> float:
    """Of the ratios of each round, so that a slow round does not count."""
    pairs = zip(numerators, denominators, strict=True)
    return statistics.median(above / below for above, below in pairs)


def summarize(found: dict[str, list[float]]) -> dict:
    results: dict = {}
    for length in LENGTHS:
        runs = {k.split("/")[1]: v for k, v in found.items() if k.startswith(f"{length}/")}
        results[length] = {
            "samples_per_second": {name: statistics.median(runs[name]) for name in runs},
            "ours_over_fuxictr": median_ratio(runs["ours"], runs["fuxictr"]),
            "ours_over_fuxictr_kept_memory": median_ratio(
                runs["ours"], runs["fuxictr_kept_memory"]
            ),
            "runs": runs,
        }
    results["cost_of_short_over_full"] = median_ratio(found[f"{FULL}/ours"], found[f"{SHORT}/ours"])
    return results


def to_markdown(results: dict, arguments: argparse.Namespace) -> str:
    ratios = ("ours_over_fuxictr", "ours_over_fuxictr_kept_memory")
    rows = [
        (
            length,
            *(f"{results[length]['samples_per_second'][n]:,.0f}" for n in CONTENDERS),
            *(f"{results[length][name]:.2f}" for name in ratios),
        )
        for length in LENGTHS
    ]
    heads = ["history", "ours, samples/s", "FuxiCTR", "FuxiCTR, allocator keeps memory"]
    lines = [
        f"Median of {arguments.rounds} alternating rounds of {arguments.steps} steps "
        f"({WARM_UP_STEPS} warm-up), batch {BATCH_SIZE}, dim 16, attention 64 "
        f"{arguments.activation}, {arguments.threads} threads. Generated rows, fused tables with "
        "row-wise Adagrad; FuxiCTR: dense Adam, padded histories.",
        "",
        table([*heads, "ours ÷ FuxiCTR", "ours ÷ FuxiCTR, memory kept"], rows),
    ]
    cost = results["cost_of_short_over_full"]
    lines += [
        "",
        f"Asked: {ASKED_RATIO} × FuxiCTR at 50 and 100. Histories of 10 on average where 100 are "
        f"allowed cost {cost:.2f} of full ones (asked: at most {ASKED_COST}).",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = harness.parser(__doc__, rounds=3, peer="required", threads=harness.cores())
    parser.add_argument("--peer-workers", type=int, default=1, help="of its DataLoader")
    parser.add_argument("--activation", choices=["relu", "dice"], default="relu")
    parser.add_argument("--steps", type=int, default=45)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        arguments.work = Path(folder) / "fuxictr"
        data = {name: write_rows(Path(folder), name, arguments.steps) for name in LENGTHS}
        results = summarize(harness.alternate(arguments.rounds, contenders(arguments, data)))
    harness.report(arguments, results, to_markdown(results, arguments))


if __name__ == "__main__":
    main()
