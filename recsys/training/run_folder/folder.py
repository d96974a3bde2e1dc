"""The run folder: what training leaves behind, and how it is read back."""

import os
import platform
import subprocess
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from recsys.config.run import RunConfig, dump_config, load_stored_config
from recsys.data.config import DataConfig
from recsys.distributed.context import Ranks
from recsys.distributed.device import choose_device
from recsys.errors import RecsysError
from recsys.io.atomic import write_json, write_text
from recsys.models.ctr_model import CTRModel
from recsys.schema import SCHEMA_FILE, Schema, load_schema
from recsys.training.checkpoint.io import MODEL_PREFIX, SafetensorsCheckpointIO
from recsys.training.lightning.strategy import build_on_ranks
from recsys.training.run_folder.progress import RunProgress, find_weights, read_progress

CONFIG_FILE, ENVIRONMENT_FILE = "config.yaml", "environment.json"
TRAINING_FILE, PLAN_FILE = "training.json", "plan.json"
PACKAGES = ("recsys", "torch", "torchrec", "fbgemm-gpu-cpu", "fbgemm-gpu", "lightning", "polars")


@dataclass(frozen=True)
class TrainedRun:
    """A run: its choices, its data and its best model so far, ready to score.

    `unfinished`: how far training has come, if it has not ended.
    """

    run_dir: Path
    config: RunConfig
    schema: Schema
    dataset_dir: Path
    model: CTRModel
    ranks: Ranks
    unfinished: RunProgress | None = None


def load_run_config(run_dir: Path) -> RunConfig:
    """The resolved config of a run folder."""
    if not (run_dir / CONFIG_FILE).is_file():
        raise RecsysError(
            f"{run_dir} is not a run folder",
            expected=f"a folder with {CONFIG_FILE}, as `recsys train` writes",
        )
    return load_stored_config(run_dir / CONFIG_FILE)


def load_trained(run_dir: Path, ranks: Ranks | None = None, data: Path | None = None) -> TrainedRun:
    """The run with its best weights, in eval mode, distributed over `ranks` if there are several.

    A run that has not ended has its best weights so far, or those of its last checkpoint if nothing
    was validated yet. `data`: where the dataset is now.
    """
    config = load_run_config(run_dir)
    schema = load_schema(run_dir)
    checkpoint = find_weights(run_dir)
    unfinished = None
    if not (run_dir / TRAINING_FILE).is_file():
        unfinished = read_progress(checkpoint)
    ranks = ranks or Ranks(choose_device(config.train.device))
    model = build_on_ranks(config, schema, ranks).model
    io = SafetensorsCheckpointIO(ranks.checkpoint, ranks.rank)
    dense = io.load_weights(checkpoint, model.embeddings.store.state())
    model.load_dense_state_dict({k.removeprefix(MODEL_PREFIX): v for k, v in dense.items()})
    dataset_dir = config.data.path if data is None else data
    return TrainedRun(run_dir, config, schema, dataset_dir, model.eval(), ranks, unfinished)


def check_dataset(run_dir: Path, data: DataConfig) -> None:
    """Refuses a dataset that is not where the run expects it, or not the one it was trained on."""
    if not (data.path / SCHEMA_FILE).is_file():
        raise RecsysError(
            "the dataset of the run is not found",
            where=data.path,
            expected=f"the dataset that {run_dir} was trained on",
            fix="if it has moved, name its folder: `recsys evaluate` and `recsys export` take "
            "--data DIR, `recsys train --resume` and `recsys search --resume` take data.path=DIR",
        )
    if load_schema(run_dir).fingerprint() != data.load_schema().fingerprint():
        raise RecsysError(
            "the dataset has changed since the run was started",
            where=data.path,
            expected=f"the rows that {run_dir / SCHEMA_FILE} describes",
            fix="restore the dataset, or start a new run with --out",
        )


def build_model(config: RunConfig, schema: Schema) -> CTRModel:
    """The model of a config, freshly initialized, on one device."""
    return build_on_ranks(config, schema, Ranks(choose_device(config.train.device))).model


def start_run_folder(run_dir: Path, config: RunConfig, schema: Schema) -> None:
    """Makes a new run folder; one that holds something already is refused.

    The config comes last: where it is, the other files are.
    """
    if run_dir.exists() and not _is_unused(run_dir):
        raise RecsysError(
            f"{run_dir} is not empty",
            fix=f"choose another --out, or continue it with `recsys train --resume {run_dir}`",
        )
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        write_text(run_dir / SCHEMA_FILE, schema.model_dump_json(indent=1))
        write_json(run_dir / ENVIRONMENT_FILE, describe_environment())
        write_text(run_dir / CONFIG_FILE, dump_config(config))
    except OSError as error:
        raise RecsysError(
            "the run folder cannot be written", where=run_dir, got=error.strerror
        ) from None


def _is_unused(run_dir: Path) -> bool:
    """True when there is nothing but a lock and what a start that was killed has left."""
    left = {SCHEMA_FILE, ENVIRONMENT_FILE}
    return all(path.name in left or path.name.startswith(".") for path in run_dir.iterdir())


def continue_run_folder(run_dir: Path, config: RunConfig) -> None:
    """Refuses to resume with another model or other rows; keeps what did change, such as epochs."""
    saved = load_stored_config(run_dir / CONFIG_FILE)
    for section in ("embeddings", "model"):
        if getattr(saved, section) != getattr(config, section):
            raise RecsysError(
                f"the run was started with another `{section}` section: its weights do not fit",
                where=run_dir / CONFIG_FILE,
                fix="resume without that change, or start a new run with --out",
            )
    check_dataset(run_dir, config.data)
    write_text(run_dir / CONFIG_FILE, dump_config(config))


def describe_environment() -> dict[str, object]:
    """Versions, hardware and commit: what a number needs beside it."""
    return {
        **{name: _version(name) for name in PACKAGES if _version(name)},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "commit": _commit(),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _commit() -> str | None:
    """The commit of the checkout that this code runs from, with a mark when it was changed."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return answer.stdout.strip()
