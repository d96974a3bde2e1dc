"""The loader as Lightning needs it.

Iterating it is one epoch, and the first may start in the middle.

Needed because Lightning starts every iteration of a loader at its first batch.
"""

from collections.abc import Callable, Iterator
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback

from recsys.data.batch import Batch, Cursor
from recsys.data.loader import BatchLoader


class EpochStream:
    """Iterates over a BatchLoader from a cursor on, epoch after epoch.

    `ahead` wraps the iterator of batches: a training pipeline takes batches before it yields them.
    """

    def __init__(
        self, loader: BatchLoader, ahead: Callable[[Iterator[Batch]], Iterator[Batch]] = iter
    ) -> None:
        self.loader, self.ahead = loader, ahead
        self.next = Cursor(0, 0)

    def continue_after(self, trained: Cursor) -> None:
        """Makes the next batch the one after `trained`, in the next epoch if that was the last."""
        if trained.batch + 1 >= len(self.loader):
            self.next = Cursor(trained.epoch + 1, 0)
        else:
            self.next = Cursor(trained.epoch, trained.batch + 1)

    def __len__(self) -> int:
        """Number of batches in a whole epoch."""
        return len(self.loader)

    def __iter__(self) -> Iterator[Batch]:
        self.loader.start_at(self.next)
        for batch in self.ahead(iter(self.loader)):
            # Not after the loop: Lightning counts batches and never asks for one past the last.
            self.continue_after(batch.cursor)
            yield batch


class ContinueStream(Callback):
    """Moves the stream to the batch after the one that the checkpoint was saved at."""

    def __init__(self, stream: EpochStream) -> None:
        self.stream = stream

    def on_load_checkpoint(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        checkpoint: dict[str, Any],
    ) -> None:
        self.stream.continue_after(Cursor(*checkpoint["recsys"]["trained"]))
