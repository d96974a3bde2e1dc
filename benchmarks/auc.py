"""How fast is exact AUC on 10 M predictions with ties, beside scikit-learn's?

python -m benchmarks.auc                 10 M rows, 5 rounds, a record in benchmarks/results/
python -m benchmarks.auc --rows 100000 --no-record
python -m benchmarks.auc --rows 100000000 --ours-only --name auc_100m    the memory of 10⁸ rows
"""

import argparse
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable

import numpy as np

from benchmarks.record import write_record
from recsys.metrics import compute_auc, compute_auc_interval, compute_grouped_auc


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
    with open("/proc/self/clear_refs", "w") as peak:  # noqa: PTH123 - a kernel switch, not a file
        peak.write("5")
    before = current_bytes()
    function(*arguments)
    return peak_since_reset() - before


def current_bytes() -> int:
    return status_bytes("VmRSS")


def peak_since_reset() -> int:
    return status_bytes("VmHWM")


def status_bytes(key: str) -> int:
    with open("/proc/self/status") as lines:  # noqa: PTH123 - a kernel table, not a file
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))


def main() -> None:
    options = parse()
    functions: dict[str, Callable] = {"recsys": compute_auc}
    if not options.ours_only:
        functions["scikit-learn"] = scikit_learn_auc
    arguments = make_predictions(options.rows)
    seconds, values = time_alternating(functions, arguments, options.rounds)
    start = time.perf_counter()
    interval = compute_auc_interval(*arguments)
    interval_seconds = time.perf_counter() - start
    start = time.perf_counter()
    grouped_auc(*arguments)
    grouped_seconds = time.perf_counter() - start
    distinct_logits = len(np.unique(arguments[0]))
    del arguments
    results = {
        "rows": options.rows,
        "distinct_logits": distinct_logits,
        "rounds": options.rounds,
        "seconds": seconds,
        "median_seconds": {name: statistics.median(times) for name, times in seconds.items()},
        "auc": values,
        "auc_ci95": interval.ci95,
        "delong_interval_seconds": interval_seconds,
        "grouped_auc_seconds": grouped_seconds,
        "extra_peak_bytes": {
            name: extra_peak_bytes(function, options.rows) for name, function in functions.items()
        },
    }
    if not options.ours_only:
        add_comparison(results)
    table = to_table(results)
    print(json.dumps(results, indent=1))
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
        f"medians of {results['rounds']} alternating rounds in one process; memory is what one call "
        "adds to the peak of a fresh process.",
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
            f"{results['absolute_difference']:.1e} (equal to 1e-12: {results['equal_to_1e-12']}). "
        )
    lines.append(
        f"With DeLong's 95 % interval: {results['delong_interval_seconds']:.2f} s. "
        f"Grouped AUC, {rows // 20:,} groups: {results['grouped_auc_seconds']:.2f} s."
    )
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
