"""Do commands that are killed and resumed give the same bytes as undisturbed ones?

    python -m benchmarks.exactness.kill_and_resume     # 78 kills
    python -m benchmarks.exactness.kill_and_resume --devices 2 --kills 1

Each scenario trains once undisturbed. Then it is started again, ended by kill -9 at chosen and at
random moments, and continued with `recsys train --resume`, every other time with another number of
workers. `prepare` of rows and of events, both kinds of `search`, `export` and `evaluate` are killed
at random moments, and started again or resumed. In the end the folders are compared byte for byte,
hidden files included, but for the list in benchmarks/README.md. Exit status 1 if anything differs.
"""

import random
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import yaml

import data_pipelines
from benchmarks import harness
from benchmarks.exactness.folder_comparison import differences
from benchmarks.exactness.killed_commands import run_task, tasks
from benchmarks.exactness.killing import (
    Forked,
    Moment,
    after_seconds,
    arguments,
    finish,
    in_checkpoint_write,
    in_decoding,
    in_training,
    kill_and_resume,
)
from benchmarks.samples import RANDOM_SPLIT
from benchmarks.tables import table
from data_pipelines.synthetic import generate_criteo

BASE = """
data: {path: DATASET, global_batch_size: 256, shuffle_rows: 8192}
embeddings: {default: {method: full_table, embedding_dim: 8}}
model: {name: dcn_v2, hidden_dims: [64], dropout: 0.1}
train:
  epochs: 2
  dense_optimizer: {name: adam, learning_rate: 2.0e-3}
  embedding_optimizer: {name: rowwise_adagrad, learning_rate: 0.05}
  early_stopping_patience: null
  checkpoint_every_steps: 13
  log_every_steps: 1
  device: cpu
"""
RAW_ROWS = 25_600  # 80 % to train: 80 steps an epoch


@dataclass(frozen=True)
class Scenario:
    """A config, as overrides of `BASE`, and how it is measured: it validates every `interval`."""

    name: str
    overrides: tuple[str, ...]
    interval: int = 80
    steps: int = 160


AUTOINT = "model={name: autoint, attention_dim: 8, num_layers: 2, dropout: 0.1}"
LINEAR = ("model={name: logistic_regression}", "embeddings.default.embedding_dim=1")
PLAIN = "embeddings.store=plain"
HASHED = "embeddings.features={C3: {method: hashed, embedding_dim: 8, num_buckets: 50}}"
SCENARIOS = (
    Scenario("dcn_v2, fused, rowwise_adagrad", ()),
    Scenario(
        "dcn_v2, fused, sgd with l2",
        ("train.embedding_optimizer={name: sgd, learning_rate: 0.5, l2: 1.0e-5}",),
    ),
    Scenario(
        "dcn_v2, plain, adam over whole tables",
        (PLAIN, "train.embedding_optimizer={name: adam, learning_rate: 0.002, l2: 1.0e-6}"),
    ),
    Scenario(
        "dcn_v2, plain, rowwise_adagrad, clipped gradients, a plateau",
        (PLAIN, "train.gradient_clip_norm=0.1", "train.dense_optimizer.learning_rate=0.5"),
    ),
    Scenario(
        "dcn_v2 with hashed tables, fused, by steps",
        (HASHED, "train.epochs=null", "train.steps=130", "train.validate_every_steps=40"),
        interval=40,
        steps=130,
    ),
    Scenario("autoint, fused, rowwise_adagrad", (AUTOINT,)),
    Scenario(
        "autoint, plain, sparse_adam, validated thrice an epoch",
        (
            AUTOINT,
            PLAIN,
            "train.embedding_optimizer={name: sparse_adam, learning_rate: 0.002}",
            "train.validate_every_steps=26",
        ),
        interval=26,
    ),
    Scenario(
        "autoint, fused, sgd",
        (AUTOINT, "train.embedding_optimizer={name: sgd, learning_rate: 0.5}"),
    ),
    Scenario("logistic_regression, fused, rowwise_adagrad", LINEAR),
    Scenario("logistic_regression, plain, rowwise_adagrad", (*LINEAR, PLAIN)),
)


def choose_moments(scenario: Scenario, kills: int, rng: random.Random) -> dict[str, Moment]:
    """`kills` of five kinds, in the order of the run, so that each comes true."""
    early, late = rng.randrange(2, 30), rng.randrange(scenario.interval + 10, scenario.steps - 5)
    pause, delay = rng.uniform(0.0, 0.02), rng.uniform(0.0, 1.5)
    kinds: list[tuple[float, str, Moment]] = [
        (1, "loader threads decoding", in_decoding),
        (early, f"training, {pause * 1e3:.0f} ms after step {early}", in_training(early, pause)),
        (scenario.interval, "validation", in_training(scenario.interval)),
        (late, "writing a checkpoint", in_checkpoint_write(late)),
        (rng.uniform(1, scenario.steps), f"{delay:.2f} s after the start", after_seconds(delay)),
    ]
    chosen = sorted(rng.sample(kinds, kills), key=lambda kind: kind[0])
    return {name: moment for _, name, moment in chosen}


def prepare_rows(folder: Path) -> Path:
    """Generated rows in Criteo's format, prepared as a user would."""
    folder.mkdir(parents=True, exist_ok=True)
    generate_criteo(folder / "raw.tsv", RAW_ROWS, seed=1)
    data_pipelines.prepare("criteo_kaggle", [folder / "raw.tsv"], folder / "dataset", RANDOM_SPLIT)
    return folder / "dataset"


@dataclass(frozen=True)
class Options:
    """What the command line says."""

    kills: int
    devices: int
    rng: random.Random


def run_scenario(scenario: Scenario, config: Path, folder: Path, options: Options) -> dict:
    whole, resumed = (folder / name / "run" for name in ("whole", "resumed"))
    overrides = [*scenario.overrides, f"train.devices={options.devices}"]
    finish(Forked, *arguments(config, whole, overrides, 0))
    moments = choose_moments(scenario, options.kills, options.rng)
    kills = kill_and_resume(Forked, config, resumed, moments, overrides)
    found = differences(whole.parent, resumed.parent)
    print(f"{scenario.name}: {len(kills)} kills, {', '.join(found) or 'equal'}", flush=True)
    return {"scenario": scenario.name, "kills": kills, "differences": found}


def run_tasks(base: dict, folder: Path, kills: int, rng: random.Random) -> list[dict]:
    """The commands besides training, on the rows and on a run of the first scenario."""
    config = folder / "config.yaml"
    finish(Forked, "train", str(config), "--out", str(folder / "run"))
    results = []
    for number, task in enumerate(tasks(base, folder)):
        place = folder / f"task-{number}"
        place.mkdir()
        results.append(run_task(task, Forked, place, kills, rng))
        found = ", ".join(results[-1]["differences"]) or "equal"
        print(f"{task.name}: {kills} kills, {found}", flush=True)
    return results


def to_markdown(runs: list[dict], others: list[dict]) -> str:
    rows = []
    for result in runs:
        kills = "; ".join(
            f"{kill['step']} ({kill['moment']})" + ("" if kill["killed"] else ", had ended")
            for kill in result["kills"]
        )
        rows.append((result["scenario"], kills, _verdict(result)))
    text = table(["training", "killed at step (moment)", "resumed equals undisturbed"], rows)
    if not others:
        return text
    commands = [
        (r["task"], f"{r['seconds']:.1f}", ", ".join(f"{s:.2f}" for s in r["kills"]), _verdict(r))
        for r in others
    ]
    heads = ["command", "undisturbed (s)", "killed after (s)", "equals the undisturbed one"]
    return f"{text}\n\n{table(heads, commands)}"


def _verdict(result: dict) -> str:
    found = result["differences"]
    return "not equal: " + ", ".join(found) if found else "every byte"


def main() -> int:
    parser = harness.parser(__doc__)
    parser.add_argument("--kills", type=int, default=3, help="per training scenario, 1 to 5")
    parser.add_argument("--other-kills", type=int, default=8, help="of each other command")
    parser.add_argument("--scenarios", type=int, default=len(SCENARIOS), help="the first so many")
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    options = Options(given.kills, given.devices, random.Random(given.seed))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        config = folder / "config.yaml"
        text = BASE.replace("DATASET", str(prepare_rows(folder)))
        config.write_text(text)
        Forked.log = str(folder / "log.txt")
        results = [
            run_scenario(scenario, config, folder / f"run-{i}", options)
            for i, scenario in enumerate(SCENARIOS[: given.scenarios])
        ]
        others = []
        if options.devices == 1 and given.other_kills:
            others = run_tasks(yaml.safe_load(text), folder, given.other_kills, options.rng)
    kills = sum(kill["killed"] for result in results for kill in result["kills"])
    kills += sum(len(result["kills"]) for result in others)
    head = f"{kills} processes ended by kill -9, {given.devices} device(s), seed {given.seed}."
    if given.devices > 1:
        given.name = given.name or f"exactness_kill_and_resume_{given.devices}_devices"
    record = {"runs": results, "commands": others, "kills": kills, "seed": given.seed}
    harness.report(given, record, f"{head}\n\n{to_markdown(results, others)}")
    return int(any(result["differences"] for result in [*results, *others]))


if __name__ == "__main__":
    sys.exit(main())
