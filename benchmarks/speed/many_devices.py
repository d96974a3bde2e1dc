"""What do many processes cost, and do they give the same: AUC, overhead, scaling, checkpoints.

    python -m benchmarks.speed.many_devices --raw SAMPLE.tsv.gz      # all parts, or name some

auc: real Criteo rows, the committed configs without dropout, on 1, 2 and 4 gloo processes.
overhead: `recsys train` on 2 processes beside a bare torchrec loop (DistributedModelParallel over
the same plan and network, batches in memory). scaling: 1 process, 2 processes of one thread each.
checkpoints: one every 500 steps, beside none. Contenders alternate, medians count.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import data_pipelines
from benchmarks.record import write_record
from benchmarks.speed.training import write_dataset
from benchmarks.speed.training_contenders import MODELS

TOTAL_IDS, EVERY_STEPS = 2_000_000, 500
PREPARED = [
    "split.method=random",
    "split.seed=1",
    "split.fractions=[0.8,0.1,0.1]",
    "min_count=2",
]
CONFIGS = Path(__file__).parents[2] / "configs" / "criteo_kaggle"


def worker(contender: str, devices: int, threads: int, *arguments: object) -> float:
    """Samples/s of one run of `distributed_contenders`, on so many processes."""
    words = [contender, *(str(argument) for argument in arguments), "--threads", str(threads)]
    code = (
        "import sys; from recsys.distributed.launch import launch; "
        f"sys.exit(launch({words!r}, {devices}, module='benchmarks.speed.distributed_contenders'))"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(f"{contender} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])["samples_per_second"]


def alternate(rounds: int, runs: Mapping[str, Sequence[object]]) -> dict[str, list[float]]:
    """Every contender once in every round."""
    found: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, command in runs.items():
            found[name].append(worker(*command))
            print(f"{name}: {found[name][-1]:,.0f} samples/s", flush=True)
    return found


def overhead(rounds: int, data: Path, steps: int) -> dict[str, dict]:
    found = {}
    for model in MODELS:
        rest = ("--data", data, "--model", model, "--steps", steps)
        runs = {name: (name, 2, 1, *rest) for name in ("ours", "bare")}
        speeds = alternate(rounds, runs)
        medians = {name: statistics.median(values) for name, values in speeds.items()}
        found[model] = {
            "samples_per_second": medians,
            "overhead": medians["bare"] / medians["ours"] - 1,
            "runs": speeds,
        }
    return found


def scaling(rounds: int, data: Path, steps: int) -> dict[str, dict]:
    found = {}
    for model in MODELS:
        rest = ("--data", data, "--model", model, "--steps", steps)
        runs = {
            "1 process, 1 thread": ("ours", 1, 1, *rest),
            "1 process, 2 threads": ("ours", 1, 2, *rest),
            "2 processes, 1 thread each": ("ours", 2, 1, *rest),
        }
        speeds = alternate(rounds, runs)
        medians = {name: statistics.median(values) for name, values in speeds.items()}
        found[model] = {"samples_per_second": medians, "runs": speeds}
    return found


def checkpoints(rounds: int, data: Path) -> dict[str, object]:
    steps = 2 * EVERY_STEPS + 100
    rest = ("--data", data, "--model", "dcn_v2", "--steps", steps, "--batch-size", 1024)
    runs = {
        "none": ("ours", 1, 2, *rest),
        f"every {EVERY_STEPS} steps": ("ours", 1, 2, *rest, "--every", EVERY_STEPS),
    }
    speeds = alternate(rounds, runs)
    without, with_them = (statistics.median(values) for values in speeds.values())
    cost = without / with_them - 1
    return {"samples_per_second": speeds, "cost": cost, "steps": steps, "batch_size": 1024}


def auc(raw: Path, folder: Path) -> dict[str, dict]:
    data = folder / "criteo"
    data_pipelines.prepare("criteo_kaggle", [raw], data, PREPARED, lambda *_: None, False)
    found: dict[str, dict] = {}
    for model in ("dcn_v2", "autoint"):
        for devices in (1, 2, 4):
            run = folder / f"{model}-{devices}"
            overrides = [f"data.path={data}", f"train.devices={devices}", "train.epochs=3"]
            overrides += ["model.input_dropout=0", "train.device=cpu"]
            overrides += ["model.dropout=0"] if model == "dcn_v2" else []
            command = [sys.executable, "-m", "recsys", "train", CONFIGS / f"{model}.yaml"]
            subprocess.run([*command, *overrides, "--out", run], check=True, capture_output=True)
            report = json.loads((run / "report.json").read_text())
            found.setdefault(model, {})[devices] = report["splits"]["test"]["auc"]
            print(f"{model} on {devices}: test AUC {found[model][devices]:.6f}", flush=True)
    return found


def to_markdown(results: dict[str, dict], rounds: int) -> str:
    lines = [f"gloo on CPU; medians of {rounds} alternating runs where speed is measured."]
    if found := results.get("auc"):
        lines += ["", "| real Criteo rows, test AUC | 1 | 2 | 4 processes | largest difference |"]
        lines += ["|---|---|---|---|---|"]
        for model, by_devices in found.items():
            values = list(by_devices.values())
            cells = " | ".join(f"{value:.6f}" for value in values)
            lines.append(f"| {model} | {cells} | {max(values) - min(values):.6f} |")
    if found := results.get("overhead"):
        lines += ["", "| 2 processes, samples/s | recsys | bare torchrec loop | overhead |"]
        lines += ["|---|---|---|---|"]
        for model, r in found.items():
            speed = r["samples_per_second"]
            lines.append(
                f"| {model} | {speed['ours']:,.0f} | {speed['bare']:,.0f} | {r['overhead']:+.1%} |"
            )
    if found := results.get("scaling"):
        names = list(next(iter(found.values()))["samples_per_second"])
        lines += ["", "| samples/s | " + " | ".join(names) + " |", "|---" * (1 + len(names)) + "|"]
        for model, r in found.items():
            cells = " | ".join(f"{value:,.0f}" for value in r["samples_per_second"].values())
            lines.append(f"| {model} | {cells} |")
    if found := results.get("checkpoints"):
        lines += [
            "",
            f"A checkpoint every {EVERY_STEPS} steps of {found['batch_size']} rows (dcn_v2, 2 M "
            f"ids, dim 16) costs {found['cost']:+.1%} of training time.",
        ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = ["auc", "overhead", "scaling", "checkpoints"]
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(parts)}; all by default")
    parser.add_argument("--raw", type=Path, help="Criteo rows, for auc")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=45)
    parser.add_argument("--no-record", action="store_true")
    arguments = parser.parse_args()
    wanted = arguments.parts or parts
    results: dict[str, dict] = {}
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "generated"
        write_dataset(data, TOTAL_IDS, (arguments.steps + 1) * 4096)
        if "auc" in wanted:
            results["auc"] = auc(arguments.raw, Path(folder))
        if "overhead" in wanted:
            results["overhead"] = overhead(arguments.rounds, data, arguments.steps)
        if "scaling" in wanted:
            results["scaling"] = scaling(arguments.rounds, data, arguments.steps)
        if "checkpoints" in wanted:
            results["checkpoints"] = checkpoints(arguments.rounds, data)
    text = to_markdown(results, arguments.rounds)
    print(text)
    if not arguments.no_record:
        print(write_record("many_devices", results, text))


if __name__ == "__main__":
    main()
