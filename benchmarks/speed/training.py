"""How many samples a second does a training step process: ours, FuxiCTR's, a bare loop's?

    python -m benchmarks.speed.training --peer-python FUXICTR_ENV/bin/python --checkout FUXICTR

Generated rows of Criteo's shape (26 features, 13 numericals), 2 M ids in all, dim 16, batch 4096.
Ours is `recsys.training.train` from Parquet; FuxiCTR is its own `train_epoch` and loader on the
same file, as it is and with the allocator keeping freed memory as ours does; the bare loop is in
`training_contenders`. Each run is a process of its own, the contenders alternate, medians count.
"""

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from benchmarks import harness
from benchmarks.generated import write_criteo_dataset
from benchmarks.speed.training_contenders import BATCH_SIZE, MODELS
from benchmarks.tables import table

PEER_SETTINGS = {
    "dcn_v2": {"model": "dcn_v2", "set": {}},
    "autoint": {"model": "autoint_plus", "set": {"attention_dim": 16}},
}
SMALL, LARGE = 2_000_000, 20_000_000
# glibc's own switches for what recsys.compat.malloc does by calls
KEEP_MEMORY = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1),
    "MALLOC_TOP_PAD_": str(256 * 2**20),
}


def samples_per_second(
    command: list[object], threads: int, environment: Mapping[str, str]
) -> float:
    """As a contender's process reports it."""
    return harness.run_json(command, threads, environment)["samples_per_second"]


def our_command(arguments: argparse.Namespace, kind: str, model: str, data: Path) -> list[object]:
    command = [sys.executable, "-m", "benchmarks.speed.training_contenders", kind, "--data", data]
    return [*command, "--model", model, "--steps", arguments.steps, "--threads", arguments.threads]


def peer_command(arguments: argparse.Namespace, model: str, data: Path) -> list[object]:
    peer = PEER_SETTINGS[model]
    settings = {"batch_size": BATCH_SIZE, "embedding_regularizer": None, **peer["set"]}
    script = harness.PEERS / "fuxictr_train.py"
    command = [arguments.peer_python, script, "--checkout", arguments.checkout]
    command += ["--throughput", data / "train" / "part-00000.parquet", "--work", arguments.work]
    command += ["--model", peer["model"], "--set", json.dumps(settings)]
    command += ["--workers", arguments.peer_workers, "--threads", arguments.threads]
    return [*command, "--warmup-steps", 5, "--steps", arguments.steps - 5]


def contenders(
    arguments: argparse.Namespace, small: Path, large: Path
) -> dict[str, Callable[[], float]]:
    """model/contender → one run of it."""
    found: dict[str, Callable[[], float]] = {}
    for model in MODELS:
        peer = peer_command(arguments, model, small)
        runs = {
            "ours": (our_command(arguments, "ours", model, small), {}),
            "bare": (our_command(arguments, "bare", model, small), {}),
            "ours_20m_ids": (our_command(arguments, "ours", model, large), {}),
            "fuxictr": (peer, {}),
            "fuxictr_kept_memory": (peer, KEEP_MEMORY),
        }
        for name, (command, environment) in runs.items():
            found[f"{model}/{name}"] = partial(
                samples_per_second, command, arguments.threads, environment
            )
    return found


def summarize(found: dict[str, list[float]]) -> dict[str, dict]:
    """Medians, ratios and step times, by model."""
    results = {}
    for model in MODELS:
        runs = {k.split("/")[1]: v for k, v in found.items() if k.startswith(f"{model}/")}
        speed = {name: statistics.median(values) for name, values in runs.items()}
        results[model] = {
            "samples_per_second": speed,
            "step_milliseconds": {k: round(BATCH_SIZE / v * 1e3, 2) for k, v in speed.items()},
            "ours_over_fuxictr": speed["ours"] / speed["fuxictr"],
            "ours_over_fuxictr_kept_memory": speed["ours"] / speed["fuxictr_kept_memory"],
            "ours_over_bare": speed["ours"] / speed["bare"],
            "step_growth_2m_to_20m_ids": speed["ours"] / speed["ours_20m_ids"] - 1,
            "runs": runs,
        }
    return results


def to_markdown(results: dict[str, dict], arguments: argparse.Namespace) -> str:
    names = {
        "ours": "ours, 2 M ids",
        "bare": "bare loop, 2 M ids",
        "fuxictr": "FuxiCTR, 2 M ids",
        "fuxictr_kept_memory": "FuxiCTR, allocator keeps memory",
        "ours_20m_ids": "ours, 20 M ids",
    }
    heads = [f"{model}: {unit}" for model in results for unit in ("samples/s", "ms a step")]
    rows = [
        (
            name,
            *(f"{r['samples_per_second'][key]:,.0f} | {r['step_milliseconds'][key]:.1f}"
              for r in results.values()),
        )
        for key, name in names.items()
    ]  # fmt: skip
    lines = [
        f"Median of {arguments.rounds} alternating runs of {arguments.steps} steps (5 warm-up), "
        f"batch {BATCH_SIZE}, dim 16, {arguments.threads} threads.",
        "",
        table(["", *heads], rows),
    ]
    for model, r in results.items():
        lines += [
            "",
            f"{model}: {r['ours_over_fuxictr']:.2f} × FuxiCTR "
            f"({r['ours_over_fuxictr_kept_memory']:.2f} × when its allocator keeps memory too), "
            f"{r['ours_over_bare']:.2f} × the bare loop; "
            f"a step takes {r['step_growth_2m_to_20m_ids']:+.1%} at 20 M ids.",
        ]
    return "\n".join(lines)


def main() -> None:
    parser = harness.parser(__doc__, rounds=3, peer="required", threads=harness.cores())
    parser.add_argument("--peer-workers", type=int, default=1, help="of its DataLoader")
    parser.add_argument("--steps", type=int, default=45)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        arguments.work = Path(folder) / "fuxictr"
        rows = (arguments.steps + 1) * BATCH_SIZE
        small = write_criteo_dataset(Path(folder) / "ids_2m", SMALL, rows, BATCH_SIZE)
        large = write_criteo_dataset(Path(folder) / "ids_20m", LARGE, rows, BATCH_SIZE)
        speeds = harness.alternate(arguments.rounds, contenders(arguments, small, large))
    results = summarize(speeds)
    harness.report(arguments, results, to_markdown(results, arguments))


if __name__ == "__main__":
    main()
