"""Which weights of a run are scored, and the progress of a run that has not finished."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recsys.data.batch import Cursor
from recsys.errors import RecsysError
from recsys.training.checkpoint.policy import latest_whole_checkpoint, whole_checkpoints
from recsys.training.checkpoint.replicated_state import read_state


@dataclass(frozen=True)
class RunProgress:
    """The state of the newest checkpoint; `checkpoint` is the one whose weights are scored.

    Epochs count from 0. `best_epoch` is None if there was no validation before it was saved.
    """

    checkpoint: Path
    epoch: int
    step: int
    best_epoch: int | None = None
    best_score: float | None = None
    samples_per_second: float | None = None

    def describe(self, run_dir: Path) -> str:
        """One line that says which weights are used."""
        kind, number = self.checkpoint.name.split("-")
        which = "best checkpoint so far" if kind == "best" else "last checkpoint"
        epoch = self.best_epoch if kind == "best" else self.epoch
        at = f"step {int(number):,}" + ("" if epoch is None else f" in epoch {epoch + 1}")
        return (
            f"the run is not finished: its {which} is used ({at}); "
            f"continue training with `recsys train --resume {run_dir}`"
        )


def find_weights(run_dir: Path) -> Path:
    """The best checkpoint of a run; if there is none yet, the last one."""
    checkpoints_dir = run_dir / "checkpoints"
    best = sorted(checkpoints_dir.glob("best-*"))
    last = None if best else latest_whole_checkpoint(checkpoints_dir)
    if not best and last is None:
        raise RecsysError(
            f"{run_dir} has no checkpoint yet",
            fix=f"continue training with `recsys train --resume {run_dir}`",
        )
    return best[-1] if best else last  # type: ignore[return-value]  # one of them is there


def read_progress(weights: Path) -> RunProgress:
    """The progress of a run, from the newest checkpoint beside these weights."""
    step = int(weights.name.rpartition("-")[2])
    for newest in whole_checkpoints(weights.parent)[-1:]:
        with suppress(RecsysError, KeyError, TypeError):  # it is damaged, the weights are not
            return _progress_of(read_state(newest), weights, step)
    return RunProgress(weights, epoch=0, step=step)  # killed right after the first validation


def _progress_of(state: dict[str, Any], weights: Path, step: int) -> RunProgress:
    schedule, speed = (state["callbacks"][name] for name in ("ValidationSchedule", "Speed"))
    has_best = schedule["best_step"] == step
    rate = round(speed["rows"] / speed["seconds"], 1) if speed["seconds"] else None
    return RunProgress(
        checkpoint=weights,
        epoch=Cursor(*state["recsys"]["trained"]).epoch,
        step=state["global_step"],
        best_epoch=schedule["best_epoch"] if has_best else None,
        best_score=schedule["best_score"] if has_best else None,
        samples_per_second=rate,
    )
