"""The commands that `kill_and_resume` kills besides training, and what must hold after each kill.

After a kill, a dataset or an export is absent or equals the uninterrupted one, and every
checkpoint that has a name has its checksums. At the end, the folder in which the command has worked
equals the uninterrupted one: no file more, no file less, no other byte.
"""

import random
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import yaml

from benchmarks.exactness.folder_comparison import differences
from benchmarks.exactness.killing import Launch, finish, has_ended, kill
from benchmarks.samples import RANDOM_SPLIT
from benchmarks.speed.events import RECIPE, write_events
from data_pipelines.synthetic import generate_criteo
from recsys.io.checksums import verify_checksums

EVENTS, ROWS = 300_000, 150_000  # of the data that is prepared
SEARCHES = {
    "optembed": {
        "embeddings": {"default": {"method": "optembed", "embedding_dim": 8}},
        "search": {"name": "optembed", "budget_share": 0.5, "generations": 5},
    },
    "dnis": {
        "embeddings": {"default": {"method": "dnis", "embedding_dim": 8, "bands": 2}},
        "search": {"name": "dnis", "budget_share": 0.5},
    },
}


@dataclass(frozen=True)
class Task:
    """A command that works in a folder: how it is started or continued there, and where it ends.

    `result`: what it makes in the folder. `appears_whole`: the result has its name only when it is
    complete. `begin` fills the new folder with what the command needs there.
    """

    name: str
    command: Callable[[Path], list[str]]
    result: str
    appears_whole: bool = True
    begin: Callable[[Path], object] = Path.mkdir


def tasks(base: dict, folder: Path) -> list[Task]:
    """All tasks; `folder` holds the dataset of `base` and `run`, trained on it and evaluated."""
    rows, events = folder / "rows.tsv", folder / "events.csv"
    generate_criteo(rows, ROWS, seed=2)
    write_events(events, EVENTS)
    (folder / "events.yaml").write_text(RECIPE.replace("CHECK", "true"))
    searches = {name: folder / f"{name}.yaml" for name in SEARCHES}
    for name, path in searches.items():
        path.write_text(yaml.safe_dump({**base, **SEARCHES[name]}))
    return [
        _prepare("prepare, rows", ["criteo_kaggle", "--raw", str(rows), *RANDOM_SPLIT]),
        _prepare("prepare, events", [str(folder / "events.yaml"), "--raw", str(events)]),
        *(_search(f"search, {name}", path) for name, path in searches.items()),
        Task(
            "export",
            lambda place: ["export", str(folder / "run"), "--out", str(place / "export")],
            "export",
        ),
        Task(
            "evaluate",
            lambda place: ["evaluate", str(place / "run")],
            "run",
            appears_whole=False,
            begin=lambda place: shutil.copytree(
                folder / "run",
                place / "run",
                ignore=shutil.ignore_patterns("report.*", "predictions", "attention"),
            ),
        ),
    ]


def _prepare(name: str, arguments: list[str]) -> Task:
    def command(place: Path) -> list[str]:
        replace = ["--overwrite"] if (place / "dataset").exists() else []
        return ["prepare", *arguments, "--out", str(place / "dataset"), *replace]

    return Task(name, command, "dataset")


def _search(name: str, config: Path) -> Task:
    def command(place: Path) -> list[str]:
        if (place / "search" / "supernet" / "config.yaml").exists():
            return ["search", "--resume", str(place / "search")]
        return ["search", str(config), "--out", str(place / "search")]

    return Task(name, command, "search", appears_whole=False)


def run_task(task: Task, launch: Launch, folder: Path, kills: int, rng: random.Random) -> dict:
    """Runs it once undisturbed; then kills it at random moments until `kills` have hit."""
    whole = folder / "whole"
    seconds = _timed(task, launch, whole)
    delays: list[float] = []
    found: list[str] = []
    place, rounds = folder / "killed-0", 1
    task.begin(place)
    while len(delays) < kills:
        command = launch(*task.command(place))
        delay = rng.uniform(0.01, seconds)
        _sleep(delay, command.pid)
        is_killed = not has_ended(command.pid)
        kill(command.pid)
        command.wait()
        if is_killed:
            delays.append(round(delay, 2))
            found += _broken(task, whole, place)
        if not is_killed or len(delays) == kills // 2:  # finished work is compared and replaced
            finish(launch, *task.command(place))
            found += differences(whole, place)
            if not task.appears_whole:
                place, rounds = folder / f"killed-{rounds}", rounds + 1
                task.begin(place)
    finish(launch, *task.command(place))
    found += differences(whole, place)
    return {"task": task.name, "seconds": round(seconds, 2), "kills": delays, "differences": found}


def _timed(task: Task, launch: Launch, place: Path) -> float:
    task.begin(place)
    start = time.monotonic()
    finish(launch, *task.command(place))
    return time.monotonic() - start


def _sleep(seconds: float, pid: int) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not has_ended(pid):
        time.sleep(0.002)


def _broken(task: Task, whole: Path, place: Path) -> list[str]:
    """What a kill has left under its name without being complete."""
    for checkpoint in place.glob("**/checkpoints/[!.]*"):
        verify_checksums(checkpoint)
    if not task.appears_whole or not (place / task.result).exists():
        return []
    found = [name for name in differences(whole, place) if name.startswith(f"{task.result}/")]
    return [f"after a kill: {name}" for name in found]
