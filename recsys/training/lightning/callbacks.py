"""Callbacks around the steps: validation schedule, early stopping, speed, progress."""

import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import lightning
from lightning import Callback, LightningModule
from lightning.pytorch.callbacks import TQDMProgressBar

from recsys.config.train import TrainConfig
from recsys.data.batch import Batch
from recsys.distributed.context import Ranks
from recsys.io.atomic import remove_folder
from recsys.metrics import METRICS, Metric
from recsys.training.checkpoint.policy import checkpoint_io_of
from recsys.training.lightning.module import CTRModule

MIN_IMPROVEMENT = 1e-6


def as_ctr_module(module: LightningModule) -> CTRModule:
    """Narrows the type: Lightning passes its base class to callbacks."""
    if not isinstance(module, CTRModule):
        raise TypeError(f"these callbacks belong to a CTRModule, not to {type(module).__name__}")
    return module


class ValidationSchedule(Callback):
    """Learning-rate plateau, early stopping and the best weights, by `train.monitor` on valid."""

    def __init__(self, config: TrainConfig, checkpoints_dir: Path) -> None:
        self.config, self.checkpoints_dir = config, checkpoints_dir
        self.best_score: float | None = None
        self.best_step = 0
        self.best_epoch = 0
        self.validations_without_gain = 0

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: LightningModule) -> None:
        module = as_ctr_module(pl_module)
        score = float(trainer.callback_metrics[f"valid/{self.config.monitor}"])
        if self._is_gain(score):
            self.best_score, self.validations_without_gain = score, 0
            self.best_step, self.best_epoch = trainer.global_step, module.trained.epoch
            self._save_best(trainer, module)
            return
        self.validations_without_gain += 1
        if self.validations_without_gain % self.config.plateau_patience == 0:
            factor = module.learning_rate_factor * self.config.plateau_factor
            module.scale_learning_rates(factor)
        self._stop_early(trainer)

    def _is_gain(self, score: float) -> bool:
        goodness = METRICS[self.config.monitor].goodness
        best = self.best_score
        return best is None or goodness(score) > goodness(best) + MIN_IMPROVEMENT

    def on_train_start(self, trainer: lightning.Trainer, pl_module: LightningModule) -> None:
        self._stop_early(trainer)  # resumed after the last validation

    def _stop_early(self, trainer: lightning.Trainer) -> None:
        patience = self.config.early_stopping_patience
        if patience is not None and self.validations_without_gain >= patience:
            trainer.should_stop = True

    def _save_best(self, trainer: lightning.Trainer, module: CTRModule) -> None:
        target = self.checkpoints_dir / f"best-{self.best_step:09d}"
        io = checkpoint_io_of(trainer)
        tables = module.model.embeddings.store.state()
        io.save_weights(module.model.dense_state_dict(), tables, target)
        io.then(lambda: self._delete_all_but(target))

    def _delete_all_but(self, target: Path) -> None:
        for folder in self.checkpoints_dir.glob("best-*"):
            if folder != target:
                remove_folder(folder)

    def state_dict(self) -> dict[str, Any]:
        return {
            "best_score": self.best_score,
            "best_step": self.best_step,
            "best_epoch": self.best_epoch,
            "validations_without_gain": self.validations_without_gain,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best_score = state_dict["best_score"]
        self.best_step, self.best_epoch = state_dict["best_step"], state_dict["best_epoch"]
        self.validations_without_gain = state_dict["validations_without_gain"]


class Speed(Callback):
    """Rows per second of training time, without validations and the first steps."""

    WARM_UP_STEPS = 5

    def __init__(self) -> None:
        self.rows, self.seconds, self._seen, self._since = 0, 0.0, 0, 0.0

    @property
    def samples_per_second(self) -> float:
        return self.rows / self.seconds if self.seconds else 0.0

    def on_train_batch_start(self, *_: object) -> None:
        if self._since == 0.0:
            self._since = time.perf_counter()

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: LightningModule,
        outputs: object,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        now = time.perf_counter()
        self._seen += 1
        if self._seen > self.WARM_UP_STEPS:
            self.rows += batch.global_rows
            self.seconds += now - self._since
        self._since = now

    def on_validation_start(self, *_: object) -> None:
        self._since = 0.0

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows, "seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows, self.seconds = state_dict["rows"], state_dict["seconds"]


class PlainProgress(Callback):
    """One line per validation, if no terminal is attached."""

    def __init__(self, speed: Speed) -> None:
        self.speed = speed

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: LightningModule) -> None:
        module = as_ctr_module(pl_module)
        figures = [
            f"{metric.title} {value:.5f}" for metric, value in validated(trainer.callback_metrics)
        ]
        print(  # noqa: T201  progress is this callback's purpose
            f"epoch {module.trained.epoch + 1}  step {trainer.global_step}  "
            f"{_train_loss(module)}valid {'  '.join(figures)}{_speed(self.speed)}",
            file=sys.stderr,
            flush=True,
        )


def _train_loss(module: CTRModule) -> str:
    loss = module.mean_train_loss
    return "" if loss is None else f"train loss {loss:.5f}  "


def _speed(speed: Speed) -> str:
    """Empty during the warm-up steps."""
    return f"  {speed.samples_per_second:,.0f} samples/s" if speed.seconds else ""


def validated(logged: Mapping[str, Any]) -> Iterator[tuple[Metric, float]]:
    """The metrics of the last validation, in the order of the list."""
    for metric in METRICS.values():
        if f"valid/{metric.name}" in logged:
            yield metric, float(logged[f"valid/{metric.name}"])


class ProgressBar(TQDMProgressBar):
    """Lightning's bar with the rate in samples; epochs count from 1."""

    def __init__(self, speed: Speed) -> None:
        super().__init__(refresh_rate=5)
        self.speed = speed

    def on_train_epoch_start(self, trainer: lightning.Trainer, *_: object) -> None:
        """Replaces Lightning's method, which counts from 0."""
        self.train_progress_bar.reset(int(self.total_train_batches))
        self.train_progress_bar.initial = 0
        self.train_progress_bar.set_description(f"Epoch {trainer.current_epoch + 1}")

    def get_metrics(self, trainer: lightning.Trainer, pl_module: LightningModule) -> dict[str, Any]:
        metrics = dict(super().get_metrics(trainer, pl_module))
        metrics.pop("v_num", None)
        logged = trainer.callback_metrics
        if "train/loss" in logged:
            metrics["batch loss"] = f"{float(logged['train/loss']):.4f}"
        for metric, value in validated(logged):
            metrics[f"valid {metric.title}"] = f"{value:.{metric.digits}f}"
        if self.speed.seconds:
            metrics["samples/s"] = f"{self.speed.samples_per_second:,.0f}"
        return metrics


def build_progress(speed: Speed, ranks: Ranks) -> list[Callback]:
    """A bar if a terminal is attached, else plain lines; on the first rank only."""
    if not ranks.is_first:
        return []
    return [ProgressBar(speed) if sys.stderr.isatty() else PlainProgress(speed)]
