"""torchrec's training pipeline in a loop of ours, through methods that torchrec keeps private."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from recsys.compat.torchrec import DistributedModelParallel, Pipelineable

# isort: split
from torchrec.distributed.train_pipeline import TrainPipelineSparseDist


class SparsePipeline(TrainPipelineSparseDist):
    """torchrec's pipeline in the hands of Lightning's loop.

    The stages before a forward pass run as its batch is taken from `ahead`, those after it in the
    call, which is the forward pass; loss, backward and step stay the module's, as without a
    pipeline. Between two batches `detach` gives the model its plain forward pass until the next
    batch is taken; what is on its way stays.
    """

    def __init__(
        self, model: DistributedModelParallel, device: torch.device, batch_type: type
    ) -> None:
        Pipelineable.register(batch_type)  # it has the methods; torchrec asks for the name
        super().__init__(model, optimizer=None, device=device)  # torchrec only keeps it for later

    def ahead(self, batches: Iterator[Any]) -> Iterator[Any]:
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

    def __call__(self, batch: object) -> tuple[Tensor, Tensor]:
        """Logits (B,) and penalty () of the batch that was taken last."""
        output: tuple[Tensor, Tensor] = self._model(batch)
        if len(self.batches) > 1:
            self.wait_sparse_data_dist(self.contexts[1])  # the lengths are here, so the ids set out
        return output

    def _attach(self) -> None:
        if not self._model_attached:
            self.attach(sparse_dist=False)  # the exchange that has begun goes on
