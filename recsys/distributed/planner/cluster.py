"""The devices that a plan is made for: number, memory, bandwidths."""

import os
from typing import Literal, Self

import torch
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from recsys.compat.torchrec_planner import Topology
from recsys.config.base import BaseConfig
from recsys.errors import RecsysError

MILLISECONDS = 1000.0
DEFAULT_HOST_BYTES = 10**12


class Bandwidths(BaseConfig):
    """Bytes per second. The defaults are nominal figures of a node of eight H100 (SXM)."""

    hbm: PositiveFloat = 3.35e12  # the device's memory
    host_memory: PositiveFloat = 5.0e10  # a rank's share of the host's memory
    host_to_device: PositiveFloat = 5.5e10  # PCIe 5 × 16, as copies reach it
    within_node: PositiveFloat = 4.5e11  # NVLink, one direction, a device
    between_nodes: PositiveFloat = 5.0e10  # one 400 Gb/s adapter a device


# processes on CPUs: gloo over the loopback, and over one 10 Gb/s adapter
CPU_BANDWIDTHS = Bandwidths(within_node=5.0e9, between_nodes=1.25e9)


class Cluster(BaseConfig):
    """Equal devices on equal nodes. `hbm_bytes`: of one device; `host_bytes`: of one node."""

    world_size: PositiveInt
    devices_per_node: PositiveInt
    device_type: Literal["cuda", "cpu"]
    hbm_bytes: NonNegativeInt = 0
    host_bytes: PositiveInt = DEFAULT_HOST_BYTES
    # the share of the memory reserved for the network, activations and libraries
    reserved_share: float = Field(default=0.15, ge=0, lt=1)
    # null: nominal figures of such devices
    bandwidths: Bandwidths | None = None

    @model_validator(mode="after")
    def _whole_nodes(self) -> Self:
        if self.world_size % self.devices_per_node:
            raise RecsysError(
                f"{self.world_size} devices do not fill a whole number of nodes",
                where="--world-size, --devices-per-node",
                expected=f"a multiple of {self.devices_per_node} devices",
                got=self.world_size,
            )
        return self

    @property
    def table_bytes(self) -> int:
        """Memory of one rank that is available to tables.

        The device's, or on CPU a share of the host's.
        """
        whole = self.hbm_bytes if self.device_type == "cuda" else self._host_part
        return int(whole * (1 - self.reserved_share))

    @property
    def speeds(self) -> Bandwidths:
        if self.bandwidths is not None:
            return self.bandwidths
        return CPU_BANDWIDTHS if self.device_type == "cpu" else Bandwidths()

    @property
    def num_nodes(self) -> int:
        return self.world_size // self.devices_per_node

    @property
    def _host_part(self) -> int:
        return self.host_bytes // self.devices_per_node

    def topology(self) -> Topology:
        """The same for torchrec's planner, in bytes per millisecond."""
        speeds = self.speeds
        return Topology(
            world_size=self.world_size,
            local_world_size=self.devices_per_node,
            compute_device=self.device_type,
            hbm_cap=int(self.hbm_bytes * (1 - self.reserved_share)),
            ddr_cap=int(self._host_part * (1 - self.reserved_share)),
            hbm_mem_bw=speeds.hbm / MILLISECONDS,
            ddr_mem_bw=speeds.host_memory / MILLISECONDS,
            hbm_to_ddr_mem_bw=speeds.host_to_device / MILLISECONDS,
            intra_host_bw=speeds.within_node / MILLISECONDS,
            inter_host_bw=speeds.between_nodes / MILLISECONDS,
        )


def this_cluster(world_size: int, devices_per_node: int, device_type: str) -> Cluster:
    """`world_size` devices like this machine's; all ranks must use rank 0's result."""
    is_cuda = device_type == "cuda"
    return Cluster(
        world_size=world_size,
        devices_per_node=devices_per_node,
        device_type="cuda" if is_cuda else "cpu",
        hbm_bytes=torch.cuda.get_device_properties(0).total_memory if is_cuda else 0,
        host_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
    )
