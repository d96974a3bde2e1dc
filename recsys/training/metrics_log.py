"""metrics.csv and TensorBoard: the log of training, identical with and without interruptions.

A checkpoint records the length of metrics.csv. Resuming truncates the file to it, which removes the
rows of steps that are trained again and an incomplete last line. Epochs count from 1, as on the
console.
"""

import csv
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import lightning
from lightning import Callback, LightningModule
from torch.utils.tensorboard.writer import SummaryWriter

from recsys.config.train import TrainConfig
from recsys.errors import RecsysError
from recsys.metrics import validation_metrics
from recsys.training.lightning.callbacks import Speed, as_ctr_module, validated

METRICS_FILE, TENSORBOARD_DIR = "metrics.csv", "tensorboard"


class MetricsLog(Callback):
    """A row every `every_steps` steps and after each validation.

    Must precede the callbacks that write checkpoints, which record the file's length.
    """

    def __init__(self, run_dir: Path, config: TrainConfig, speed: Speed) -> None:
        self.path, self.tensorboard_dir = run_dir / METRICS_FILE, run_dir / TENSORBOARD_DIR
        self.every_steps, self.speed = config.log_every_steps, speed
        names = [f"valid/{metric.name}" for metric in validation_metrics(config.monitor)]
        self.columns = ["epoch", "step", "train/loss", *names]
        self.columns += ["learning_rate", "samples_per_second"]
        self.size = 0
        self._writer: SummaryWriter | None = None

    def on_train_start(self, trainer: lightning.Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        folder, first_step = str(self.tensorboard_dir), trainer.global_step + 1
        with self._writing():
            self._cut()
            self._writer = SummaryWriter(folder, purge_step=first_step)

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: LightningModule, *_: object
    ) -> None:
        if trainer.global_step % self.every_steps == 0:
            figures = {
                "train/loss": float(trainer.callback_metrics["train/loss"]),
                "learning_rate": trainer.optimizers[0].param_groups[0]["lr"],
                "samples_per_second": round(self.speed.samples_per_second, 1),
            }
            self._log(trainer, pl_module, figures)

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: LightningModule) -> None:
        figures = validated(trainer.callback_metrics)
        self._log(trainer, pl_module, {f"valid/{metric.name}": v for metric, v in figures})

    def on_train_end(self, trainer: lightning.Trainer, pl_module: LightningModule) -> None:
        self._close()

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        self._close()

    def state_dict(self) -> dict[str, int]:
        return {"size": self.size}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self.size = state_dict["size"]

    def _cut(self) -> None:
        """Keeps the rows up to the checkpoint and their columns; without one, a header only."""
        if self.size > 0 and self.path.is_file():
            os.truncate(self.path, min(self.size, self.path.stat().st_size))
            with self.path.open(newline="") as file:
                self.columns = next(csv.reader(file), self.columns)
            return
        self.path.unlink(missing_ok=True)
        self._append(dict(zip(self.columns, self.columns, strict=True)))

    def _log(
        self, trainer: lightning.Trainer, module: LightningModule, figures: Mapping[str, float]
    ) -> None:
        if self._writer is None:  # not the first rank
            return
        step = trainer.global_step
        with self._writing():
            self._append(
                {"epoch": as_ctr_module(module).trained.epoch + 1, "step": step, **figures}
            )
            for name, value in figures.items():
                self._writer.add_scalar(name, value, step)
            self._writer.flush()

    def _append(self, row: Mapping[str, object]) -> None:
        with self.path.open("a", newline="") as file:
            writer = csv.DictWriter(file, self.columns, extrasaction="ignore", lineterminator="\n")
            writer.writerow(row)
            self.size = file.tell()

    def _close(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            with self._writing():
                writer.close()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Turns a full disk into a message, even if TensorBoard's own thread detects it first."""
        shown = threading.excepthook
        threading.excepthook = _ignore_write_errors
        try:
            yield
        except OSError as error:
            raise RecsysError(
                "the log of training cannot be written",
                where=self.path.parent,
                got=error.strerror,
                fix="free space or choose another --out; --resume continues from a checkpoint",
            ) from None
        finally:
            threading.excepthook = shown


def _ignore_write_errors(failure: threading.ExceptHookArgs) -> None:
    """Ignores errors of TensorBoard's thread, which raises them again in the next call."""
    if not isinstance(failure.exc_value, OSError):
        threading.__excepthook__(failure)
