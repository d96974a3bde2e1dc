"""Moves batches ahead of training, so that a GPU waits for neither bus nor network.

With sharded tables: while one batch is trained, the ids of the next travel to the ranks that hold
their rows, and the one after it is copied to the device. Rows are looked up when a batch's turn
comes, in the weights of that moment, so everything comes out as without a pipeline, bit for bit.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Protocol, runtime_checkable

import lightning
import torch
from lightning import Callback, LightningModule

from recsys.config.train import PipelineChoice
from recsys.data.batch import Batch
from recsys.distributed.build import ModelOnRanks
from recsys.errors import RecsysError
from recsys.models.ctr_model import Forward
from recsys.training.lightning.callbacks import as_ctr_module

Ahead = Callable[[Iterator[Batch]], Iterator[Batch]]


@runtime_checkable
class TrainingPipeline(Protocol):
    """A forward pass that takes its batches from the loader ahead of time."""

    def ahead(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The same batches on the device."""

    def detach(self) -> object:
        """Gives the model its plain forward pass, until the next batch is taken."""


class DetachPipeline(Callback):
    """Scoring, and whoever comes after training, get the model's plain forward pass."""

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: LightningModule) -> None:
        forward: object = as_ctr_module(pl_module).train_forward[0]
        if isinstance(forward, TrainingPipeline):
            forward.detach()

    def on_train_end(self, trainer: lightning.Trainer, pl_module: LightningModule) -> None:
        self.on_validation_start(trainer, pl_module)


def training_forward(built: ModelOnRanks, choice: PipelineChoice, device: torch.device) -> Forward:
    """What trains: the model on its ranks, in torchrec's pipeline where the config wants it."""
    is_sharded = built.plan is not None
    if choice == "on" and not is_sharded:
        raise RecsysError(
            "train.pipeline needs tables sharded over several devices",
            where="train.pipeline",
            expected="auto or off; on with embeddings.store fused on several devices",
            got="on",
        )
    if is_sharded and (choice == "on" or (choice == "auto" and device.type == "cuda")):
        # here, because the plain store must not import torchrec
        from recsys.compat.torchrec_pipeline import SparsePipeline

        return SparsePipeline(built.forward, device, Batch)
    return built.forward


def look_ahead(forward: object, device: torch.device) -> Ahead:
    """How batches for this forward pass are taken from a loader."""
    if isinstance(forward, TrainingPipeline):
        return forward.ahead
    if device.type == "cuda":
        return partial(copied_aside, device=device)
    return iter


def copied_aside(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """The same batches on a GPU, copied while it still computes on those before."""
    aside = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch.cuda is untyped here
    for batch in batches:
        with torch.cuda.stream(aside):
            copy = batch.to(device, non_blocking=True)
        current = torch.cuda.current_stream(device)
        current.wait_stream(aside)
        copy.record_stream(current)
        yield copy
