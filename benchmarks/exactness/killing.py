"""Kills `recsys` commands with -9 at chosen moments, and resumes them or starts them again."""

import csv
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from recsys.cli.main import main

POLL_SECONDS = 0.0005
# They change only the speed; the last command uses the first pair again.
WORKERS = (
    ("data.num_workers=2", "data.prefetch_batches=8"),
    ("data.num_workers=5", "data.prefetch_batches=3"),
)
PRELOADED = (
    "data_pipelines",
    "onnxscript",
    "recsys.export.write",
    "recsys.reports",
    "recsys.search.search",
    "recsys.training.train",
    "torch.onnx._internal.exporter._core",
)


class Command(Protocol):
    """A `recsys` command under way."""

    pid: int

    def wait(self) -> object: ...


class Forked:
    """A `recsys` command in a process forked from one that has imported everything.

    What it prints goes to a file, which is shown if the command fails.
    """

    server = multiprocessing.get_context("forkserver")
    log = os.devnull

    def __init__(self, *command: str) -> None:
        self.server.set_forkserver_preload([*PRELOADED, __name__])
        self.process = self.server.Process(target=_run_command, args=(command, self.log))
        self.process.start()
        assert self.process.pid is not None
        self.pid = self.process.pid

    def wait(self) -> int | None:
        self.process.join()
        code = self.process.exitcode
        if code not in (0, -signal.SIGKILL) and self.log != os.devnull:
            sys.stderr.write(Path(self.log).read_text())
        return code


def _run_command(command: Sequence[str], log: str) -> None:
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(file, 1)
    os.dup2(file, 2)
    sys.argv = ["recsys", *command]
    main()


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
    finish(launch, *arguments(config, run, overrides, 0))
    return kills


def arguments(config: Path, run: Path, overrides: Sequence[str], number: int) -> list[str]:
    workers = WORKERS[number % 2]
    if (run / "config.yaml").exists():
        return ["train", "--resume", str(run), *workers]
    return ["train", str(config), "--out", str(run), *overrides, *workers]


def finish(launch: Launch, *command: str) -> None:
    done = launch(*command).wait()
    code = getattr(done, "code", done)
    if code != 0:
        raise RuntimeError(f"recsys {' '.join(command)} ended with {done}")
