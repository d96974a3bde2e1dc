"""How fast is exact AUC on 10 M predictions with ties, compared with scikit-learn?

python -m benchmarks.speed.auc                                      10 M rows, 5 rounds
python -m benchmarks.speed.auc --rows 100000 --no-record
python -m benchmarks.speed.auc --rows 100000000 --ours-only --name speed_auc_100m
"""

import multiprocessing
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks import harness
from benchmarks.tables import table
from recsys.metrics import compute_auc, compute_auc_interval, compute_grouped_auc

MAX_GROUPED_ROWS = 20_000_000  # grouped AUC takes some 60 bytes per row


def make_predictions(rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits with 3 decimals (so nearly all are tied), as a CTR model gives them; 25 % clicks."""
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


def timed(function: Callable, arguments: tuple) -> tuple[float, float]:
    """Seconds of a call, and its result."""
    start = time.perf_counter()
    value = function(*arguments)
    return time.perf_counter() - start, value


def extra_peak_bytes(function: Callable, rows: int) -> int:
    """What one call adds to the peak memory of a fresh process that holds the predictions."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measure_peak, (function, rows))


def measure_peak(function: Callable, rows: int) -> int:
    function(*make_predictions(1000))
    arguments = make_predictions(rows)
    Path("/proc/self/clear_refs").write_text("5")  # resets the kernel's peak
    before = status_bytes("VmRSS")
    function(*arguments)
    return status_bytes("VmHWM") - before


def status_bytes(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))


def measure(functions: dict[str, Callable], rows: int, rounds: int) -> dict:
    for function in functions.values():
        function(*make_predictions(1000))  # imports
    arguments = make_predictions(rows)
    runs = harness.alternate(
        rounds, {name: partial(timed, function, arguments) for name, function in functions.items()}
    )
    seconds = {name: [each for each, _ in found] for name, found in runs.items()}
    extras: dict[str, Callable] = {"with DeLong's 95 % interval": compute_auc_interval}
    if rows <= MAX_GROUPED_ROWS:
        extras[f"grouped AUC, {rows // 20:,} groups"] = grouped_auc
    return {
        "rows": rows,
        "distinct_logits": len(np.unique(arguments[0])),
        "rounds": rounds,
        "seconds": seconds,
        "median_seconds": {name: statistics.median(times) for name, times in seconds.items()},
        "auc": {name: found[-1][1] for name, found in runs.items()},
        "extra_seconds": {name: timed(extra, arguments)[0] for name, extra in extras.items()},
        "extra_peak_bytes": {name: extra_peak_bytes(f, rows) for name, f in functions.items()},
    }


def add_comparison(results: dict) -> None:
    medians, values = results["median_seconds"], results["auc"]
    results["times_faster"] = medians["scikit-learn"] / medians["recsys"]
    results["absolute_difference"] = abs(values["scikit-learn"] - values["recsys"])
    results["equal_to_1e-12"] = results["absolute_difference"] <= 1e-12


def to_markdown(results: dict) -> str:
    rows = results["rows"]
    lines = [
        f"Exact AUC of {rows:,} float32 predictions ({results['distinct_logits']:,} distinct), "
        f"medians of {results['rounds']} alternating rounds in one process; memory is what one "
        "call adds to the peak of a fresh process.",
        "",
        table(
            ["", "seconds", "extra memory, bytes per row", "AUC"],
            [
                (name, f"{seconds:.3f}", f"{results['extra_peak_bytes'][name] / rows:.1f}",
                 f"{results['auc'][name]:.15f}")
                for name, seconds in results["median_seconds"].items()
            ],
        ),
        "",
    ]  # fmt: skip
    if "times_faster" in results:
        lines += [
            f"{results['times_faster']:.1f} × faster; difference "
            f"{results['absolute_difference']:.1e} (equal to 1e-12: {results['equal_to_1e-12']}).",
            "",
        ]
    lines += [f"- {name}: {seconds:.2f} s" for name, seconds in results["extra_seconds"].items()]
    return "\n".join(lines)


def main() -> None:
    parser = harness.parser(__doc__, rounds=5)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--ours-only", action="store_true")
    arguments = parser.parse_args()
    functions: dict[str, Callable] = {"recsys": compute_auc}
    if not arguments.ours_only:
        functions["scikit-learn"] = scikit_learn_auc
    results = measure(functions, arguments.rows, arguments.rounds)
    if not arguments.ours_only:
        add_comparison(results)
    harness.report(arguments, results, to_markdown(results))


if __name__ == "__main__":
    main()
