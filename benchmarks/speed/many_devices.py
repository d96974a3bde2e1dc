"""What do many processes cost, and do they give the same: AUC, overhead, scaling, checkpoints.

    python -m benchmarks.speed.many_devices --raw SAMPLE.tsv.gz      # all parts, or name some

auc: real Criteo rows, the committed configs without dropout, on 1, 2 and 4 gloo processes.
overhead: `recsys train` on 2 processes beside a bare torchrec loop (DistributedModelParallel over
the same plan and network, batches in memory). scaling: 1 process, 2 processes of one thread each.
checkpoints: one every 500 steps, beside none. Contenders alternate, medians count.
"""

import json
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import data_pipelines
from benchmarks import harness
from benchmarks.generated import write_criteo_dataset
from benchmarks.samples import RANDOM_SPLIT
from benchmarks.speed.training_contenders import MODELS
from benchmarks.tables import table

TOTAL_IDS, EVERY_STEPS = 2_000_000, 500


def worker(contender: str, devices: int, threads: int, *arguments: object) -> float:
    """Samples/s of one run of `distributed_contenders`, on so many processes."""
    words = [contender, *(str(argument) for argument in arguments), "--threads", str(threads)]
    code = (
        "import sys; from recsys.distributed.launch import launch; "
        f"sys.exit(launch({words!r}, {devices}, module='benchmarks.speed.distributed_contenders'))"
    )
    return harness.run_json([sys.executable, "-c", code], threads)["samples_per_second"]


def alternate(rounds: int, runs: Mapping[str, Sequence[object]]) -> dict[str, list[float]]:
    """Samples/s of every contender in every round."""
    return harness.alternate(rounds, {n: partial(worker, *run) for n, run in runs.items()})


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
    data_pipelines.prepare(
        "criteo_kaggle", [raw], data, [*RANDOM_SPLIT, "min_count=2"], lambda *_: None, False
    )
    found: dict[str, dict] = {}
    for model in ("dcn_v2", "autoint"):
        for devices in (1, 2, 4):
            run = folder / f"{model}-{devices}"
            overrides = [f"data.path={data}", f"train.devices={devices}", "train.epochs=3"]
            overrides += ["model.input_dropout=0", "train.device=cpu"]
            overrides += ["model.dropout=0"] if model == "dcn_v2" else []
            command = [
                sys.executable,
                "-m",
                "recsys",
                "train",
                harness.CONFIGS / "criteo_kaggle" / f"{model}.yaml",
            ]
            harness.run([*command, *overrides, "--out", run])
            report = json.loads((run / "report.json").read_text())
            found.setdefault(model, {})[devices] = report["splits"]["test"]["auc"]
            print(f"{model} on {devices}: test AUC {found[model][devices]:.6f}", flush=True)
    return found


def to_markdown(results: dict[str, dict], rounds: int) -> str:
    parts = [f"gloo on CPU; medians of {rounds} alternating runs where speed is measured."]
    if found := results.get("auc"):
        heads = ["real Criteo rows, test AUC", 1, 2, "4 processes", "largest difference"]
        rows = [
            (model, *(f"{v:.6f}" for v in by.values()),
             f"{max(by.values()) - min(by.values()):.6f}")
            for model, by in found.items()
        ]  # fmt: skip
        parts.append(table(heads, rows))
    if found := results.get("overhead"):
        heads = ["2 processes, samples/s", "recsys", "bare torchrec loop", "overhead"]
        parts.append(
            table(heads, [(m, *speeds(r), f"{r['overhead']:+.1%}") for m, r in found.items()])
        )
    if found := results.get("scaling"):
        names = next(iter(found.values()))["samples_per_second"]
        parts.append(table(["samples/s", *names], [(m, *speeds(r)) for m, r in found.items()]))
    if found := results.get("checkpoints"):
        parts.append(
            f"A checkpoint every {EVERY_STEPS} steps of {found['batch_size']} rows (dcn_v2, 2 M "
            f"ids, dim 16) costs {found['cost']:+.1%} of training time."
        )
    return "\n\n".join(parts)


def speeds(result: dict) -> list[str]:
    return [f"{value:,.0f}" for value in result["samples_per_second"].values()]


def main() -> None:
    parser = harness.parser(__doc__, rounds=3)
    parts = ["auc", "overhead", "scaling", "checkpoints"]
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(parts)}; all by default")
    parser.add_argument("--raw", type=Path, help="Criteo rows, for auc")
    parser.add_argument("--steps", type=int, default=45)
    arguments = parser.parse_args()
    wanted = arguments.parts or parts
    results: dict[str, dict] = {}
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "generated"
        write_criteo_dataset(data, TOTAL_IDS, (arguments.steps + 1) * 4096, valid_rows=4096)
        if "auc" in wanted:
            results["auc"] = auc(arguments.raw, Path(folder))
        if "overhead" in wanted:
            results["overhead"] = overhead(arguments.rounds, data, arguments.steps)
        if "scaling" in wanted:
            results["scaling"] = scaling(arguments.rounds, data, arguments.steps)
        if "checkpoints" in wanted:
            results["checkpoints"] = checkpoints(arguments.rounds, data)
    harness.report(arguments, results, to_markdown(results, arguments.rounds))


if __name__ == "__main__":
    main()
