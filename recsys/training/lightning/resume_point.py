"""Resumes between two batches, wherever in the loop the checkpoint was saved.

Needed because Lightning forgets a validation that was due or running when the checkpoint was
saved, and stops at once if it considers the run finished. Here the last trained batch decides
where to continue: a due validation runs first, and this callback decides when training ends.
"""

import sys
from collections.abc import Callable
from typing import Any

import lightning
from lightning import Callback, LightningModule

from recsys.config.train import TrainConfig
from recsys.data.batch import Cursor
from recsys.training.lightning.callbacks import as_ctr_module
from recsys.training.lightning.resumable_loader import EpochStream

LoopState = dict[str, Any]


class ResumePoint(Callback):
    """Resumes exactly, and ends training after `epochs` or `steps`.

    Must be the last callback, because it may validate when training starts; the trainer's own
    `max_epochs` and `max_steps` must be -1. `save(trainer)` saves a checkpoint.
    """

    def __init__(
        self, config: TrainConfig, stream: EpochStream, save: Callable[[lightning.Trainer], None]
    ) -> None:
        self.config, self.stream, self.save = config, stream, save
        self.validated_step = 0

    def on_save_checkpoint(
        self,
        trainer: lightning.Trainer,
        pl_module: LightningModule,
        checkpoint: dict[str, Any],
    ) -> None:
        # Lightning's counters differ between a resumed and an uninterrupted run; these do not.
        trained, loops = as_ctr_module(pl_module).trained, checkpoint["loops"]["fit_loop"]
        checkpoint["epoch"] = trained.epoch
        place_between_batches(loops, trained, checkpoint["global_step"], len(self.stream))

    def on_load_checkpoint(
        self,
        trainer: lightning.Trainer,
        pl_module: LightningModule,
        checkpoint: dict[str, Any],
    ) -> None:
        trained = Cursor(*checkpoint["recsys"]["trained"])
        place_between_batches(
            checkpoint["loops"]["fit_loop"], trained, checkpoint["global_step"], len(self.stream)
        )

    def on_train_start(self, trainer: lightning.Trainer, pl_module: LightningModule) -> None:
        module, step = as_ctr_module(pl_module), trainer.global_step
        trained = module.trained
        was_due = self._is_due(trained, step) and self.validated_step != step
        if was_due:
            run_validation(trainer)
        if self._is_over(trained, step):
            trainer.should_stop = True
        if was_due and (trainer.should_stop or trained.batch + 1 == len(self.stream)):
            module.on_train_start()  # restores the random state of the checkpoint
            self.save(trainer)  # Lightning does not call the hooks of the end of an epoch here
        if step > 0 and as_ctr_module(pl_module).ranks.is_first:
            print(  # noqa: T201  the user should know what is trained again
                _describe(trained, step, len(self.stream), is_over=trainer.should_stop),
                file=sys.stderr,
                flush=True,
            )

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: LightningModule, *_: object
    ) -> None:
        if self.config.steps is not None and trainer.global_step >= self.config.steps:
            trainer.should_stop = True  # Lightning validates once more

    def on_validation_epoch_end(
        self, trainer: lightning.Trainer, pl_module: LightningModule
    ) -> None:
        # Before on_validation_end, where a checkpoint may be taken.
        self.validated_step = trainer.global_step

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: LightningModule) -> None:
        if self._is_over(as_ctr_module(pl_module).trained, trainer.global_step):
            trainer.should_stop = True

    def state_dict(self) -> dict[str, int]:
        return {"validated_step": self.validated_step}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self.validated_step = state_dict["validated_step"]

    def _is_due(self, trained: Cursor, step: int) -> bool:
        """Whether training validates after this step."""
        if step == 0:
            return False
        if self.config.steps is not None and step >= self.config.steps:
            return True
        every = self.config.validate_every_steps
        return trained.batch + 1 == len(self.stream) if every is None else step % every == 0

    def _is_over(self, trained: Cursor, step: int) -> bool:
        if self.config.steps is not None:
            return step >= self.config.steps
        ended = trained.epoch + (trained.batch + 1 == len(self.stream))
        return self.config.epochs is not None and ended >= self.config.epochs


def _describe(trained: Cursor, step: int, num_batches: int, *, is_over: bool) -> str:
    if is_over:
        return f"training was complete after step {step:,}"
    return (
        f"training continues after step {step:,}: epoch {trained.epoch + 1}, "
        f"batch {trained.batch + 1:,} of {num_batches:,}"
    )


def place_between_batches(
    fit_loop: LoopState, trained: Cursor, step: int, num_batches: int
) -> None:
    """Sets Lightning's counters to their values right after the batch `trained`, step `step`.

    Inside an epoch: those of a checkpoint saved at the end of a batch. After its last batch: those
    of one saved at the end of the epoch, after its validation.
    """
    is_epoch_end = trained.batch + 1 >= num_batches
    begun, batches = trained.epoch + 1, trained.batch + 1
    epochs = {"ready": begun, "started": begun}
    epochs |= {"processed": trained.epoch + is_epoch_end, "completed": trained.epoch}
    fit_loop["epoch_progress"] = {"total": epochs, "current": dict(epochs)}
    fit_loop["epoch_loop.batch_progress"] = {
        "total": _batch_counts(step, is_epoch_end),
        "current": _batch_counts(batches, is_epoch_end),
        "is_last_batch": is_epoch_end,
    }
    fit_loop["epoch_loop.state_dict"] = {"_batches_that_stepped": step - (not is_epoch_end)}
    fit_loop["epoch_loop.val_loop.batch_progress"] = {
        "total": _batch_counts(0, True),
        "current": _batch_counts(0, True),
        "is_last_batch": False,
    }


def _batch_counts(count: int, is_completed: bool) -> dict[str, int]:
    completed = count if is_completed else count - 1
    return {"ready": count, "started": count, "processed": count, "completed": completed}


def run_validation(trainer: lightning.Trainer) -> None:
    """Runs a validation between two batches, as Lightning's training loop does."""
    val_loop = trainer.fit_loop.epoch_loop.val_loop
    trainer.validating = True
    val_loop.restarting = False
    val_loop.run()
    trainer.training = True
