"""Lightning strategies for a model that is already on its device or sharded over its ranks.

Needed because Lightning's own strategies wrap the module again, move it to a device as a whole and
to the CPU at the end, and save the state of rank 0 only: wrong for large or sharded tables.
"""

from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch.plugins.io import CheckpointIO
from lightning.pytorch.strategies import ParallelStrategy, SingleDeviceStrategy
from torch import Tensor

from recsys.distributed.context import Ranks


class OneDeviceStrategy(SingleDeviceStrategy):
    """One process; the tables stay on the device when training ends."""

    def teardown(self) -> None:
        """All of Lightning's, but for the copy of the whole module to the CPU."""
        self.precision_plugin.teardown()
        if self.accelerator is not None:
            self.accelerator.teardown()
        self.checkpoint_io.teardown()


class TorchRecStrategy(ParallelStrategy):
    """One process per device; torchrec and DDP do the communication."""

    def __init__(self, ranks: Ranks, checkpoint_io: CheckpointIO) -> None:
        super().__init__(
            parallel_devices=[ranks.device],
            cluster_environment=TorchElasticEnvironment(),
            checkpoint_io=checkpoint_io,
        )
        self.ranks = ranks

    @property
    def root_device(self) -> torch.device:
        return self.ranks.device

    @property
    def global_rank(self) -> int:
        return self.ranks.rank

    @property
    def local_rank(self) -> int:
        return self.ranks.local_rank

    @property
    def world_size(self) -> int:
        return self.ranks.world_size

    def model_to_device(self) -> None:
        """Does nothing: the model is on its device."""

    def barrier(self, name: str | None = None) -> None:
        self.ranks.barrier()

    def broadcast(self, obj: Any, src: int = 0) -> Any:  # noqa: ANN401  Lightning's signature
        return self.ranks.broadcast(obj)

    def reduce(
        self,
        tensor: Tensor | Any,  # noqa: ANN401  Lightning's signature
        group: object = None,
        reduce_op: object = "mean",
    ) -> Tensor | Any:  # noqa: ANN401  Lightning's signature
        if not isinstance(tensor, Tensor):
            return tensor
        total = self.ranks.sum(tensor.cpu()).to(tensor.device)
        return total / self.world_size if str(reduce_op).lower() in ("mean", "avg") else total

    def save_checkpoint(
        self,
        checkpoint: dict[str, Any],
        filepath: str | Path,
        storage_options: object = None,
    ) -> None:
        """Called on every rank: each writes its own shards."""
        self.checkpoint_io.save_checkpoint(checkpoint, filepath)

    def teardown(self) -> None:
        """Leaves the model on its device: a shard cannot be moved to another."""
        self.precision_plugin.teardown()
        if self.accelerator is not None:
            self.accelerator.teardown()
        self.checkpoint_io.teardown()
