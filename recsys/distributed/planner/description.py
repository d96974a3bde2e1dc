"""A plan in numbers: the output of `recsys plan`, and plan.json."""

import math
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from recsys.compat.torchrec_planner import Shard, ShardingOption
from recsys.config.base import BaseConfig
from recsys.config.byte_sizes import format_bytes
from recsys.distributed.planner.choices import DEFAULT_CACHE_LOAD_FACTOR
from recsys.distributed.planner.cluster import Cluster
from recsys.distributed.planner.planner import FoundPlan, PlanRequest
from recsys.distributed.planner.proposals import step_milliseconds
from recsys.embeddings.collection import FeatureEmbeddings
from recsys.embeddings.memory import readers
from recsys.embeddings.records import (
    FLOAT_BYTES,
    EmbeddingBytes,
    FeatureBytes,
    SharedTableBytes,
)
from recsys.io.atomic import write_text

FORMAT_VERSION = 1
DIGITS = 6
OUR_NAMES = {"grid_shard": "grid", "fused_uvm": "uvm", "fused_uvm_caching": "uvm_caching"}


class ShardEntry(BaseConfig):
    """A shard of a table. Bytes: padded rows and their optimizer state."""

    rank: int
    rows: int
    columns: int
    device_bytes: int
    host_bytes: int


class TableEntry(BaseConfig):
    """A physical table: the features that read it, its sharding, and its shards.

    `step_milliseconds`: of its slowest shard: lookup, communication and update of one step.
    """

    table: str
    features: tuple[str, ...]
    method: str
    num_rows: int
    dim: int
    sharding: str
    kernel: str
    step_milliseconds: float
    shards: tuple[ShardEntry, ...]

    @property
    def ranks(self) -> tuple[int, ...]:
        return tuple(sorted({shard.rank for shard in self.shards}))


class RankEntry(BaseConfig):
    """The shards of one rank. `planned_bytes` includes a step's inputs and outputs."""

    rank: int
    device_bytes: int
    host_bytes: int
    planned_bytes: int
    step_milliseconds: float


class PlanDescription(BaseConfig):
    """The whole plan; the same inputs give the same JSON."""

    format: int = FORMAT_VERSION
    cluster: Cluster
    optimizer: str
    batch_size_per_rank: int
    step_milliseconds: float  # the slowest rank's: all others wait for it
    time_imbalance: float  # the slowest rank ÷ the mean
    memory_imbalance: float  # the fullest rank ÷ the mean
    train_bytes: int
    serve_bytes: int
    full_table_bytes: int
    share_of_full_tables: float | None
    tables: tuple[TableEntry, ...]
    ranks: tuple[RankEntry, ...]
    # one copy of each, as in reports
    features: dict[str, FeatureBytes]
    shared_tables: dict[str, SharedTableBytes]
    assumptions: tuple[str, ...]

    def save(self, path: Path) -> None:
        """Writes JSON, complete or not at all."""
        write_text(path, self.model_dump_json(indent=1) + "\n")


def describe_plan(
    found: FoundPlan, embeddings: FeatureEmbeddings, counted: EmbeddingBytes
) -> PlanDescription:
    """The plan of these embeddings' tables in plain numbers."""
    request = found.request
    tables = tuple(_table_entry(found, i, embeddings) for i in range(len(found.options)))
    ranks = tuple(_rank_entries(found, tables))
    milliseconds = [rank.step_milliseconds for rank in ranks]
    return PlanDescription(
        cluster=request.cluster,
        optimizer=request.optimizer.name,
        batch_size_per_rank=request.batch_size_per_rank,
        step_milliseconds=max(milliseconds),
        time_imbalance=_imbalance(milliseconds),
        memory_imbalance=_imbalance([rank.planned_bytes for rank in ranks]),
        **dict(counted),
        tables=tables,
        ranks=ranks,
        assumptions=tuple(_assumptions(request)),
    )


def _table_entry(found: FoundPlan, index: int, embeddings: FeatureEmbeddings) -> TableEntry:
    option, table = found.options[index], found.request.tables[index]
    keys = readers(embeddings.methods)[table.name]
    return TableEntry(
        table=table.name,
        features=tuple(key.name for key in keys),
        method=embeddings.methods[keys[0]].name,
        num_rows=table.num_rows,
        dim=table.dim,
        sharding=OUR_NAMES.get(option.sharding_type, option.sharding_type),
        kernel=OUR_NAMES.get(option.compute_kernel, option.compute_kernel),
        step_milliseconds=round(step_milliseconds(option), DIGITS),
        shards=tuple(_shard_entry(shard, option, found.request) for shard in option.shards),
    )


def _shard_entry(shard: Shard, option: ShardingOption, request: PlanRequest) -> ShardEntry:
    rows, columns = shard.size
    state = request.optimizer.state_floats(columns)
    whole = rows * (columns + state) * FLOAT_BYTES
    is_on_host = request.cluster.device_type == "cpu" or "uvm" in option.compute_kernel
    cached = 0
    if option.compute_kernel == "fused_uvm_caching":
        load_factor = option.cache_load_factor or DEFAULT_CACHE_LOAD_FACTOR
        cached = math.ceil(rows * load_factor) * columns * FLOAT_BYTES
    return ShardEntry(
        rank=shard.rank,
        rows=rows,
        columns=columns,
        device_bytes=cached if is_on_host else whole,
        host_bytes=whole if is_on_host else 0,
    )


def _rank_entries(found: FoundPlan, tables: tuple[TableEntry, ...]) -> Iterator[RankEntry]:
    is_cuda = found.request.cluster.device_type == "cuda"
    world_size = found.request.cluster.world_size
    held: list[list[tuple[ShardEntry, Shard]]] = [[] for _ in range(world_size)]
    for table, option in zip(tables, found.options, strict=True):
        for pair in zip(table.shards, option.shards, strict=True):
            held[pair[0].rank].append(pair)
    for rank, pairs in enumerate(held):
        yield RankEntry(
            rank=rank,
            device_bytes=sum(entry.device_bytes for entry, _ in pairs),
            host_bytes=sum(entry.host_bytes for entry, _ in pairs),
            planned_bytes=sum(s.storage.hbm if is_cuda else s.storage.ddr for _, s in pairs),
            step_milliseconds=round(sum(s.perf.total for _, s in pairs), DIGITS),
        )


def _imbalance(values: list[float] | list[int]) -> float:
    total = sum(values)
    return round(max(values) * len(values) / total, DIGITS) if total else 1.0


def _assumptions(request: PlanRequest) -> Iterator[str]:
    cluster, speeds = request.cluster, request.cluster.speeds
    yield (
        f"times are estimates by the formulas of torchrec {version('torchrec')}'s planner, "
        "not measurements"
    )
    yield "times cover lookups, their exchange and their update, not the dense network"
    yield "ranks wait for the slowest one; nothing overlaps"
    given = [f"{mean:.1f} for {key}" for key, mean in sorted(request.pooling_factors.items())]
    mean_rows = ", ".join([*given, "1 for all others" if given else "1 for each lookup"])
    yield f"mean number of rows that a sample looks up: {mean_rows}"
    yield f"{request.batch_size_per_rank:,} samples per step on each rank, tables in float32"
    yield (
        f"{cluster.reserved_share:.0%} of the memory is reserved for the network, its "
        "activations and the libraries"
    )
    yield (
        f"bandwidth per second: device memory {format_bytes(speeds.hbm)}, "
        f"host memory {format_bytes(speeds.host_memory)}, "
        f"host to device {format_bytes(speeds.host_to_device)}, "
        f"within a node {format_bytes(speeds.within_node)}, "
        f"between nodes {format_bytes(speeds.between_nodes)}"
    )
    if cluster.device_type == "cpu" or any(p.kernel for p in request.placements.values()):
        yield f"a node's {format_bytes(cluster.host_bytes)} of host memory is shared equally"
