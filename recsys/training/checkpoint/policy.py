"""When checkpoints are taken, which are kept, and which one a run continues from."""

import re
import sys
from pathlib import Path

import lightning
from lightning import Callback, LightningModule

from recsys.config.train import TrainConfig
from recsys.data.batch import Batch
from recsys.distributed.launch import is_lost_contact
from recsys.errors import RecsysError
from recsys.io.atomic import remove_dead_partials, remove_folder
from recsys.io.checksums import verify_checksums
from recsys.training.checkpoint.io import SafetensorsCheckpointIO


class Checkpoints(Callback):
    """Saves the training state at the end of each epoch and, if configured, every n steps."""

    def __init__(self, config: TrainConfig, checkpoints_dir: Path) -> None:
        self.config, self.checkpoints_dir = config, checkpoints_dir

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: LightningModule,
        outputs: object,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        every = self.config.checkpoint_every_steps
        if every is not None and trainer.global_step % every == 0:
            self.save(trainer)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: LightningModule) -> None:
        self.save(trainer)

    def on_fit_end(self, trainer: lightning.Trainer, pl_module: LightningModule) -> None:
        checkpoint_io_of(trainer).wait()

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        if isinstance(exception, RuntimeError) and is_lost_contact(exception):
            return  # what is being written waits for ranks that have gone
        try:
            checkpoint_io_of(trainer).wait()
        except RecsysError as error:  # the exception that came first is the one to raise
            print(error, file=sys.stderr, flush=True)  # noqa: T201  and this one is told

    def save(self, trainer: lightning.Trainer) -> None:
        """Saves a checkpoint of this step and deletes old ones once it is complete.

        Every rank calls it.
        """
        # The last step of an epoch may be a checkpoint step as well: the later state replaces it.
        path = self.checkpoints_dir / f"step-{trainer.global_step:09d}"
        trainer.save_checkpoint(path)
        checkpoint_io_of(trainer).then(lambda: self._delete_older_than(path))

    def save_now(self, trainer: lightning.Trainer) -> None:
        """Saves a checkpoint of this step and returns when it is on disk."""
        self.save(trainer)
        checkpoint_io_of(trainer).wait()

    def _delete_older_than(self, latest: Path) -> None:
        # A later one is damaged, or the run would have continued from there: it counts for nothing.
        so_far = [path for path in whole_checkpoints(self.checkpoints_dir) if path <= latest]
        for old in so_far[: -self.config.keep_checkpoints]:
            remove_folder(old)


def checkpoint_io_of(trainer: lightning.Trainer) -> SafetensorsCheckpointIO:
    """The trainer's checkpoint IO with its own type; Lightning declares only the base class."""
    io = trainer.strategy.checkpoint_io
    if not isinstance(io, SafetensorsCheckpointIO):
        raise TypeError(f"the trainer writes its checkpoints with a {type(io).__name__}")
    return io


def whole_checkpoints(checkpoints_dir: Path) -> list[Path]:
    """The complete checkpoints, oldest first; incomplete ones have other names."""
    return sorted(p for p in checkpoints_dir.glob("step-*") if re.fullmatch(r"step-\d{9}", p.name))


def latest_whole_checkpoint(checkpoints_dir: Path) -> Path | None:
    """The newest checkpoint whose checksums match; prints which damaged ones are skipped.

    Reads every byte and removes what killed runs left: call it on one rank only.
    """
    remove_dead_partials(checkpoints_dir)
    for folder in reversed(whole_checkpoints(checkpoints_dir)):
        try:
            verify_checksums(folder)
        except RecsysError as error:
            reason = ", ".join(line.strip() for line in str(error).splitlines())
            print(  # noqa: T201  the user must know that training goes back further
                f"checkpoint {folder.name} is passed over: {reason}", file=sys.stderr, flush=True
            )
        else:
            return folder
    return None
