"""Batches on their way before they are trained, so that a GPU waits for neither bus nor network.

With sharded tables: while one batch is trained, the ids of the next travel to the ranks that hold
their rows, and the one after it is copied to the device. Rows are looked up when a batch's turn
comes, in the weights of that moment, so everything comes out as without a pipeline, bit for bit.
"""

from collections.abc import Callable, Iterator
from functools import partial

import lightning
import torch
from lightning import Callback, LightningModule
from torch import Tensor

from recsys.compat.torchrec import (
    DistributedModelParallel,
    Pipelineable,
    TrainPipelineSparseDist,
)
from recsys.config.train import PipelineChoice
from recsys.data.batch import Batch
from recsys.distributed.build import ModelOnRanks
from recsys.embeddings.tables.build import sharded_groups
from recsys.errors import RecsysError
from recsys.models.ctr_model import Forward
from recsys.training.lightning.callbacks import as_ctr_module

Ahead = Callable[[Iterator[Batch]], Iterator[Batch]]

Pipelineable.register(Batch)  # it has the methods; torchrec asks for the name


class SparsePipeline(TrainPipelineSparseDist):
    """torchrec's pipeline in the hands of Lightning's loop.

    The stages before a forward pass run as its batch is taken from `ahead`, those after it in the
    call, which is the forward pass; loss, backward and step stay the module's, as without a
    pipeline. Between two batches `detach` gives the model its plain forward pass until the next
    batch is taken; what is on its way stays.
    """

    def __init__(self, model: DistributedModelParallel, device: torch.device) -> None:
        super().__init__(model, optimizer=None, device=device)  # torchrec only keeps it for later

    def ahead(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The same batches on the device; as one is given, the ids of the next set out."""
        self.reset()  # nobody may have asked past the last batch of an epoch
        self._attach()
        self.fill_pipeline(batches)
        while self.batches:
            self._set_module_context(self.contexts[0])
            self._wait_for_batch()
            if len(self.batches) > 1:
                self.start_sparse_data_dist(self.batches[1], self.contexts[1])
            self.enqueue_batch(batches)
            yield self.batches[0]
            self._attach()
            self.dequeue_batch()

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Logits (B,) and penalty () of the batch that was taken last."""
        output: tuple[Tensor, Tensor] = self._model(batch)
        if len(self.batches) > 1:
            self.wait_sparse_data_dist(self.contexts[1])  # the lengths are here, so the ids set out
        return output

    def _attach(self) -> None:
        if not self._model_attached:
            self.attach(sparse_dist=False)  # the exchange that has begun goes on


class DetachPipeline(Callback):
    """Scoring, and whoever comes after training, get the model's plain forward pass."""

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: LightningModule) -> None:
        forward = as_ctr_module(pl_module).train_forward[0]
        if isinstance(forward, SparsePipeline):
            forward.detach()

    def on_train_end(self, trainer: lightning.Trainer, pl_module: LightningModule) -> None:
        self.on_validation_start(trainer, pl_module)


def training_forward(built: ModelOnRanks, choice: PipelineChoice, device: torch.device) -> Forward:
    """What trains: the model on its ranks, in torchrec's pipeline where the config wants it."""
    is_sharded = bool(sharded_groups(built.model.embeddings.store))
    if choice == "on" and not is_sharded:
        raise RecsysError(
            "there is no exchange between devices that a pipeline could hide",
            where="train.pipeline",
            expected="auto or off; on with embeddings.store fused on several devices",
            got="on",
        )
    if is_sharded and (choice == "on" or (choice == "auto" and device.type == "cuda")):
        return SparsePipeline(built.forward, device)
    return built.forward


def look_ahead(forward: Forward, device: torch.device) -> Ahead:
    """How batches for this forward pass are taken from a loader."""
    if isinstance(forward, SparsePipeline):
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
