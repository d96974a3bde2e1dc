"""Kills `recsys train` with -9 at chosen moments, resumes it, and compares two run folders."""

import csv
import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import polars as pl
import torch
from safetensors.torch import load_file

POLL_SECONDS = 0.0005
TIMINGS = ("samples_per_second", "peak_rss_bytes")
OTHER_WORKERS = ("data.num_workers=5", "data.prefetch_batches=3")


class Command(Protocol):
    """A `recsys` command under way."""

    pid: int

    def wait(self) -> object: ...


Launch = Callable[..., Command]
# Returns when it is time to kill: given the run folder and whether the command has ended.
Moment = Callable[[Path, Callable[[], bool]], None]


def logged_steps(run: Path) -> list[int]:
    """The steps of the rows in metrics.csv so far, one row per step and one per validation."""
    with suppress(OSError), (run / "metrics.csv").open() as file:
        rows = [row["step"] for row in csv.DictReader(file)]
        return [int(step) for step in rows if step and step.isdigit()]
    return []


def wait_until(condition: Callable[[], bool], has_ended: Callable[[], bool]) -> None:
    while not condition() and not has_ended():
        time.sleep(POLL_SECONDS)


def in_making_the_folder(run: Path, has_ended: Callable[[], bool]) -> None:
    """The run folder is there, and perhaps nothing in it yet."""
    wait_until(run.exists, has_ended)


def in_decoding(run: Path, has_ended: Callable[[], bool]) -> None:
    """Training begins, metrics.csv has been cut; the loader's threads make the first batches."""
    known = set((run / "tensorboard").glob("*"))
    wait_until(lambda: set((run / "tensorboard").glob("*")) > known, has_ended)


def after_seconds(seconds: float) -> Moment:
    """Some time after training has begun, wherever it is then."""

    def wait(run: Path, has_ended: Callable[[], bool]) -> None:
        in_decoding(run, has_ended)
        deadline = time.monotonic() + seconds
        wait_until(lambda: time.monotonic() > deadline, has_ended)

    return wait


def in_training(step: int, seconds: float = 0.0) -> Moment:
    """That step is logged; where a validation follows, it is not done yet."""

    def wait(run: Path, has_ended: Callable[[], bool]) -> None:
        in_decoding(run, has_ended)
        wait_until(lambda: max(logged_steps(run), default=0) >= step, has_ended)
        time.sleep(seconds)

    return wait


def in_checkpoint_write(step: int) -> Moment:
    """After that step, a checkpoint folder is there under its temporary name."""

    def wait(run: Path, has_ended: Callable[[], bool]) -> None:
        in_training(step)(run, has_ended)
        wait_until(lambda: any((run / "checkpoints").glob(".*.partial")), has_ended)

    return wait


def has_ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def descendants(pid: int) -> Iterator[int]:
    with suppress(OSError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            yield int(child)
            yield from descendants(int(child))


def kill(pid: int) -> None:
    """kill -9 of a process and all that it has started."""
    for victim in (pid, *list(descendants(pid))):
        with suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)


def kill_and_resume(
    launch: Launch, config: Path, run: Path, moments: dict[str, Moment], overrides: Sequence[str]
) -> list[dict[str, object]]:
    """Starts the run, kills it at each moment, resumes, and in the end lets it finish."""
    kills: list[dict[str, object]] = []
    for number, (name, moment) in enumerate(moments.items()):
        command = launch(*arguments(config, run, overrides, number))
        moment(run, lambda: has_ended(command.pid))  # noqa: B023  called in this turn only
        is_killed = not has_ended(command.pid)
        kill(command.pid)
        command.wait()
        kills.append(
            {"moment": name, "killed": is_killed, "step": max(logged_steps(run), default=0)}
        )
    finish(launch, *arguments(config, run, overrides, len(moments)))
    return kills


def arguments(config: Path, run: Path, overrides: Sequence[str], number: int) -> list[str]:
    workers = OTHER_WORKERS if number % 2 else ()
    if (run / "config.yaml").exists():
        return ["train", "--resume", str(run), *workers]
    return ["train", str(config), "--out", str(run), *overrides, *workers]


def finish(launch: Launch, *command: str) -> None:
    done = launch(*command).wait()
    code = getattr(done, "code", done)
    if code != 0:
        raise RuntimeError(f"recsys {' '.join(command)} ended with {done}")


def differences(whole: Path, resumed: Path) -> list[str]:
    """What is not the same in two run folders; empty when they are equal bit for bit."""
    parts: dict[str, Callable[[Path], object]] = {
        "weights and optimiser state": read_tensors,
        "predictions": read_predictions,
        "metrics.csv": read_metrics,
        "training.json": lambda run: untimed(json.loads((run / "training.json").read_text())),
        "report.json": lambda run: json.loads((run / "report.json").read_text())["splits"],
    }
    found = []
    for name, read in parts.items():
        first, second = read(whole), read(resumed)
        is_same = same_tensors(first, second) if isinstance(first, dict) else first == second
        if not is_same:
            found.append(name)
    return found


def read_tensors(run: Path) -> dict[str, torch.Tensor]:
    """Every tensor of the best weights and of the last checkpoint."""
    folders = [sorted((run / "checkpoints").glob(f"{kind}-*"))[-1] for kind in ("best", "step")]
    return {
        f"{folder.name}/{file.relative_to(folder)}/{name}": tensor
        for folder in folders
        for file in sorted(folder.rglob("*.safetensors"))
        for name, tensor in load_file(file).items()
    }


def same_tensors(first: object, second: object) -> bool:
    if not (isinstance(first, dict) and isinstance(second, dict)):
        return False
    return first.keys() == second.keys() and all(
        torch.equal(value, second[name])
        if isinstance(value, torch.Tensor)
        else value == second[name]
        for name, value in first.items()
    )


def read_predictions(run: Path) -> dict[str, list[bytes]]:
    return {
        path.name: [column.to_numpy().tobytes() for column in pl.read_parquet(path)]
        for path in sorted((run / "predictions").glob("*.parquet"))
    }


def read_metrics(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open() as file:
        return [untimed(row) for row in csv.DictReader(file)]


def untimed(facts: dict) -> dict:
    """Without the figures that no two runs share."""
    return {
        name: untimed(value) if isinstance(value, dict) else value
        for name, value in facts.items()
        if name not in TIMINGS
    }
