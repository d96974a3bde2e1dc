"""How fast is exact AUC on 10 M predictions with ties, beside scikit-learn's?

python -m benchmarks.speed.auc                 10 M rows, 5 rounds, a record in benchmarks/results/
python -m benchmarks.speed.auc --rows 100000 --no-record
python -m benchmarks.speed.auc --rows 100000000 --ours-only --name auc_100m   memory of 10⁸ rows
"""

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.record import write_record
from recsys.metrics import compute_auc, compute_auc_interval, compute_grouped_auc

MAX_GROUPED_ROWS = 20_000_000  # grouped AUC takes some 60 bytes per row


def make_predictions(rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits like a CTR model's with 3 decimals (so nearly all are tied), 25 % clicks."""
    rng = np.random.default_rng(0)
    labels = (rng.random(rows, dtype=np.float32) < 0.25).astype(np.int8)
    logits = rng.standard_normal(rows, dtype=np.float32) + labels - np.float32(1.5)
    return np.round(logits, 3), labels


def scikit_learn_auc(logits: np.ndarray, labels: np.ndarray) -> float:
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(labels, logits))


def grouped_auc(logits: np.ndarray, labels: np.ndarray) -> float | None:
    group_ids = np.random.default_rng(1).integers(0, len(labels) // 20, len(labels))
    return compute_grouped_auc(logits, labels, group_ids).value


def time_alternating(
    functions: dict[str, Callable], arguments: tuple, rounds: int
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Each round runs every function once, so that a slow minute of the machine hits them all."""
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    values = {}
    for _ in range(rounds):
        for name, function in functions.items():
            start = time.perf_counter()
            values[name] = function(*arguments)
            seconds[name].append(time.perf_counter() - start)
    return seconds, values


def extra_peak_bytes(function: Callable, rows: int) -> int:
    """What one call adds to the peak memory of a fresh process that holds the predictions."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measure_peak, (function, rows))


def measure_peak(function: Callable, rows: int) -> int:
    function(*make_predictions(1000))
    arguments = make_predictions(rows)
    Path("/proc/self/clear_refs").write_text("5")  # the kernel forgets the peak so far
    before = status_bytes("VmRSS")
    function(*arguments)
    return status_bytes("VmHWM") - before


def status_bytes(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))


def measure(functions: dict[str, Callable], rows: int, rounds: int) -> dict:
    time_alternating(functions, make_predictions(1000), rounds=1)  # imports
    arguments = make_predictions(rows)
    seconds, values = time_alternating(functions, arguments, rounds)
    extras: dict[str, Callable] = {"with DeLong's 95 % interval": compute_auc_interval}
    if rows <= MAX_GROUPED_ROWS:
        extras[f"grouped AUC, {rows // 20:,} groups"] = grouped_auc
    return {
        "rows": rows,
        "distinct_logits": len(np.unique(arguments[0])),
        "rounds": rounds,
        "seconds": seconds,
        "median_seconds": {name: statistics.median(times) for name, times in seconds.items()},
        "auc": values,
        "extra_seconds": {
            name: times[0] for name, times in time_alternating(extras, arguments, 1)[0].items()
        },
    }


def main() -> None:
    options = parse()
    functions: dict[str, Callable] = {"recsys": compute_auc}
    if not options.ours_only:
        functions["scikit-learn"] = scikit_learn_auc
    results = measure(functions, options.rows, options.rounds)
    results["extra_peak_bytes"] = {
        name: extra_peak_bytes(function, options.rows) for name, function in functions.items()
    }
    if not options.ours_only:
        add_comparison(results)
    table = to_table(results)
    print(table)
    if not options.no_record:
        print(write_record(options.name, results, table))


def add_comparison(results: dict) -> None:
    medians, values = results["median_seconds"], results["auc"]
    results["times_faster"] = medians["scikit-learn"] / medians["recsys"]
    results["absolute_difference"] = abs(values["scikit-learn"] - values["recsys"])
    results["equal_to_1e-12"] = results["absolute_difference"] <= 1e-12


def to_table(results: dict) -> str:
    rows = results["rows"]
    lines = [
        f"Exact AUC of {rows:,} float32 predictions ({results['distinct_logits']:,} distinct), "
        f"medians of {results['rounds']} alternating rounds in one process; memory is what one "
        "call adds to the peak of a fresh process.",
        "",
        "| | seconds | extra memory, bytes per row | AUC |",
        "|---|---:|---:|---:|",
    ]
    for name, seconds in results["median_seconds"].items():
        memory = results["extra_peak_bytes"][name] / rows
        lines.append(f"| {name} | {seconds:.3f} | {memory:.1f} | {results['auc'][name]:.15f} |")
    lines.append("")
    if "times_faster" in results:
        lines.append(
            f"{results['times_faster']:.1f} × faster; difference "
            f"{results['absolute_difference']:.1e} (equal to 1e-12: {results['equal_to_1e-12']})."
        )
        lines.append("")
    lines += [f"- {name}: {seconds:.2f} s" for name, seconds in results["extra_seconds"].items()]
    return "\n".join(lines)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--name", default="auc")
    parser.add_argument("--ours-only", action="store_true")
    parser.add_argument("--no-record", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
