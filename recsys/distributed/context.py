"""Ranks: the rank of this process, and communication with the other ranks."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from recsys.errors import RecsysError

# A rank that is silent for longer (a validation on rank 0, a slow disk) is considered dead.
TIMEOUT = timedelta(minutes=20)


@dataclass(frozen=True)
class Ranks:
    """The rank of this process.

    With one process there is no group, and every exchange returns its input.
    """

    device: torch.device
    rank: int = 0
    local_rank: int = 0
    world_size: int = 1
    # gloo groups: `host` for small exchanges, `checkpoint` for the thread that writes checkpoints
    host: dist.ProcessGroup | None = None
    checkpoint: dist.ProcessGroup | None = None

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def gather(self, value: Any) -> list[Any]:  # noqa: ANN401  any picklable value
        """Every rank's value, in rank order, on every rank."""
        if self.host is None:
            return [value]
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value, group=self.host)
        return values

    def broadcast(self, value: Any) -> Any:  # noqa: ANN401  any picklable value
        """Rank 0's value, on every rank."""
        if self.host is None:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0, group=self.host)
        return values[0]

    def sum(self, value: Tensor) -> Tensor:
        """The sum over ranks of a tensor on the host."""
        if self.host is not None:
            value = value.clone()
            dist.all_reduce(value, group=self.host)
        return value

    def any(self, flag: bool) -> bool:
        """True on every rank if it is true on one."""
        return bool(self.sum(torch.tensor(int(flag))))

    def barrier(self) -> None:
        """Waits for all ranks."""
        if self.host is not None:
            dist.barrier(group=self.host)


def world_size_of_environment() -> int:
    """The number of processes that torchrun or our launcher started; 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def local_world_size() -> int:
    """The number of them on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


@contextmanager
def join_ranks(device: torch.device, *, needs_group: bool = False) -> Iterator[Ranks]:
    """Joins the other processes of the environment.

    `needs_group` makes a group for one process too.
    """
    world_size = world_size_of_environment()
    if world_size == 1 and not needs_group:
        yield Ranks(device)
        return
    rank, local_rank = (int(os.environ.get(name, "0")) for name in ("RANK", "LOCAL_RANK"))
    if device.type == "cuda":
        device = _own_gpu(local_rank)
    backend = "nccl" if device.type == "cuda" else "gloo"
    if world_size == 1:
        store = dist.HashStore()  # type: ignore[attr-defined]  # public, and not in __all__
        dist.init_process_group(backend, store=store, rank=0, world_size=1)
    else:
        dist.init_process_group(backend, timeout=TIMEOUT)
    host, checkpoint = (dist.new_group(backend="gloo", timeout=TIMEOUT) for _ in range(2))
    yield Ranks(device, rank, local_rank, world_size, host, checkpoint)
    dist.destroy_process_group()  # not after an error: it would wait for ranks that have exited


def _own_gpu(local_rank: int) -> torch.device:
    if local_rank >= torch.cuda.device_count():
        raise RecsysError(
            f"process {local_rank} of this machine ({socket.gethostname()}) has no GPU of its own",
            where="train.devices",
            expected=f"at most {torch.cuda.device_count()}",
            got=os.environ.get("LOCAL_WORLD_SIZE", local_rank + 1),
        )
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)
