"""Errors while a checkpoint is restored.

Complete files with unfitting values become one message.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import lightning
from lightning import Callback, LightningModule

from recsys.distributed.launch import is_lost_contact
from recsys.errors import RecsysError, shorten

# Raised by Lightning, torch and our callbacks if a restored state has other types.
_MISFITS = (TypeError, ValueError, KeyError, IndexError, AttributeError, RuntimeError)


class TrainingStart(Callback):
    """Remembers whether training has begun; must be the first callback."""

    def __init__(self) -> None:
        self.has_begun = False

    def on_train_start(self, trainer: lightning.Trainer, pl_module: LightningModule) -> None:
        self.has_begun = True


@contextmanager
def restoring(checkpoint: Path | None, start: TrainingStart) -> Iterator[None]:
    """Turns errors before the first training step of a resumed run into one RecsysError."""
    try:
        yield
    except _MISFITS as error:
        is_ours = checkpoint is None or start.has_begun
        if is_ours or (isinstance(error, RuntimeError) and is_lost_contact(error)):
            raise
        raise RecsysError(
            "the checkpoint cannot be restored: a value in it has another type or size",
            where=checkpoint,
            got=shorten(f"{type(error).__name__}: {error}"),
            fix="delete this checkpoint folder, to resume from the one before, or start a new run",
        ) from None
