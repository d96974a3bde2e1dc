"""SIGTERM and SIGINT during training: finish the step, save a checkpoint, stop.

Needed because Lightning's own handler exchanges messages between ranks inside the handler. A
preempted job gets SIGTERM and a few seconds; a user types Ctrl-C. A second signal ends the process
at once: a file that is being written has no final name yet.
"""

import signal
from collections.abc import Callable

import lightning
import torch
import torch.distributed as dist
from lightning import Callback, LightningModule

from recsys.io.stop_signals import StopSignals

AGREE_EVERY = 10


class StoppedBySignal(Exception):  # noqa: N818  no error: the user asked for it
    """Training was stopped early, with a checkpoint of step `step`; 0 if nothing was trained."""

    def __init__(self, number: int, step: int) -> None:
        self.signal, self.step = signal.Signals(number), step
        when = f"after step {step}" if step else "before the first step"
        super().__init__(f"stopped by {self.signal.name} {when}")


class StopOnSignal(Callback):
    """Stops training between two batches, or inside a validation, with `StoppedBySignal`.

    `save(trainer)` saves a checkpoint of the current step and returns when it is on disk. A
    validation that is interrupted is run again on resume. With several ranks, `group` (gloo) lets
    them agree, every ten batches, on where to stop. Must come after all callbacks that change
    state.
    """

    def __init__(
        self,
        signals: StopSignals,
        save: Callable[[lightning.Trainer], None],
        group: dist.ProcessGroup | None = None,
    ) -> None:
        self.signals, self.save, self.group = signals, save, group
        self._first_step = 0

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: LightningModule) -> None:
        # Lightning's own handler talks to the other ranks from inside the handler, and its training
        # loop asks them about signals in every step.
        trainer._signal_connector.register_signal_handlers = _do_nothing  # type: ignore[method-assign]  # there is no switch for it
        trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = _do_nothing  # type: ignore[method-assign]  # there is no switch for it

    def on_train_start(self, trainer: lightning.Trainer, pl_module: LightningModule) -> None:
        self._first_step = trainer.global_step
        if number := self._agreed():
            raise StoppedBySignal(number, trainer.global_step)

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: LightningModule, *_: object
    ) -> None:
        if self._is_asked(trainer.global_step):
            self._stop(trainer)

    def on_validation_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: LightningModule,
        outputs: object,
        batch: object,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if self._is_asked(batch_idx):
            self._stop(trainer)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: LightningModule) -> None:
        if number := self._agreed():
            raise StoppedBySignal(number, trainer.global_step)

    def _stop(self, trainer: lightning.Trainer) -> None:
        if number := self._agreed():
            # At the first step the checkpoint exists, and the module may be half restored.
            if trainer.global_step > self._first_step:
                self.save(trainer)
            raise StoppedBySignal(number, trainer.global_step)

    def _is_asked(self, count: int) -> bool:
        """Whether to check for a signal now: all ranks must exchange it at the same batch."""
        if self.group is None:
            return self.signals.received > 0
        return count % AGREE_EVERY == 0

    def _agreed(self) -> int:
        """The signal that any rank has received, or 0."""
        if self.group is None:
            return self.signals.received
        number = torch.tensor(self.signals.received)
        dist.all_reduce(number, dist.ReduceOp.MAX, group=self.group)
        return int(number)


def _do_nothing() -> None:
    pass
