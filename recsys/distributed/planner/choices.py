"""The sharding types and kernels that each table's placement allows."""

from collections.abc import Mapping, Sequence

from recsys.compat.torchrec_planner import CacheParams, ParameterConstraints
from recsys.distributed.planner.cluster import Cluster
from recsys.embeddings.config import EmbeddingsConfig
from recsys.embeddings.methods.base import EmbeddingKey, EmbeddingMethod
from recsys.embeddings.optimizers.base import TableOptimizerConfig
from recsys.embeddings.table_spec import TableSpec
from recsys.embeddings.tables.placement import Kernel, PlacementConfig, Sharding
from recsys.errors import RecsysError

TORCHREC_KERNELS: dict[Kernel, str] = {
    "fused": "fused",
    "uvm": "fused_uvm",
    "uvm_caching": "fused_uvm_caching",
    "dense": "dense",
}
ON_CPU: tuple[Sharding, ...] = (
    "table_wise",
    "column_wise",
    "table_column_wise",
    "data_parallel",
)
DEFAULT_CACHE_LOAD_FACTOR = 0.2


def table_placements(
    config: EmbeddingsConfig, methods: Mapping[EmbeddingKey, EmbeddingMethod]
) -> dict[str, PlacementConfig]:
    """The placement of each table, by table name, from its features' placements."""
    found: dict[str, tuple[str, PlacementConfig]] = {}
    for key, method in methods.items():
        feature = key.name
        placement = config.placement_of(feature)
        if placement is None:
            continue
        for table in method.tables():
            first, known = found.setdefault(table.name, (feature, placement))
            if known != placement:
                raise RecsysError(
                    f"{first} and {feature} share the table {table.name!r} but have different "
                    "placements",
                    where="embeddings.features: placement",
                    expected="one placement for features that share a table",
                    got=f"{first}: {_brief(known)}; {feature}: {_brief(placement)}",
                    fix=f"drop the placement of {feature}, or write the same for both",
                )
    return {table: placement for table, (_, placement) in found.items()}


def _brief(placement: PlacementConfig) -> str:
    return str(placement.model_dump(mode="json", exclude_none=True))


def sharding_choices(
    table: TableSpec, placement: PlacementConfig, optimizer: TableOptimizerConfig, cluster: Cluster
) -> tuple[Sharding, ...]:
    """The sharding types that the planner may use for this table.

    Those configured, else the usual ones.
    """
    if placement.sharding is not None:
        _check_on_offer(table, placement, cluster)
        return placement.sharding
    _check_kernel(table, placement, cluster)
    is_cuda = cluster.device_type == "cuda"
    has_rows_for_all = table.num_rows >= cluster.world_size
    wanted: dict[Sharding, bool] = {
        "table_wise": True,
        "row_wise": is_cuda and has_rows_for_all,
        "table_row_wise": is_cuda and has_rows_for_all and cluster.num_nodes > 1,
        "column_wise": True,
        "data_parallel": placement.kernel is None and cluster.world_size > 1,
    }
    changed = optimizer.changed_by_sharding
    return tuple(s for s, is_wanted in wanted.items() if is_wanted and s not in changed)


def _check_on_offer(table: TableSpec, placement: PlacementConfig, cluster: Cluster) -> None:
    _check_kernel(table, placement, cluster)
    for sharding in placement.sharding or ():
        if cluster.device_type == "cpu" and sharding not in ON_CPU:
            raise RecsysError(
                f"table {table.name!r}: {sharding} is not available on CPU",
                where="embeddings.features: placement",
                expected=", ".join(ON_CPU),
                got=sharding,
                fix="choose one of these, or plan for --device cuda",
            )
        if sharding == "grid" and cluster.num_nodes == 1:
            raise RecsysError(
                f"table {table.name!r}: grid sharding needs several nodes",
                where="embeddings.features: placement",
                got=f"one node of {cluster.devices_per_node} devices",
                fix="write row_wise",
            )


def _check_kernel(table: TableSpec, placement: PlacementConfig, cluster: Cluster) -> None:
    if cluster.device_type == "cpu" and placement.kernel in ("uvm", "uvm_caching"):
        raise RecsysError(
            f"table {table.name!r}: kernel {placement.kernel} is not available on CPU",
            where="embeddings.features: placement",
            expected="fused, or no kernel",
            got=placement.kernel,
        )


def constraints(
    padded_dim: int,
    placement: PlacementConfig,
    shardings: Sequence[Sharding],
    cluster: Cluster,
    pooling_factors: Sequence[float],
) -> ParameterConstraints:
    """The same as torchrec's constraints; `pooling_factors`.

    Mean rows of each lookup per sample.
    """
    free: tuple[Kernel, ...] = ("fused", "dense")
    kernels = free if placement.kernel is None else (placement.kernel,)
    load_factor = placement.cache_load_factor or DEFAULT_CACHE_LOAD_FACTOR
    is_cached = placement.kernel == "uvm_caching"
    return ParameterConstraints(
        sharding_types=["grid_shard" if s == "grid" else s for s in shardings],
        compute_kernels=[TORCHREC_KERNELS[kernel] for kernel in kernels],
        pooling_factors=list(pooling_factors),
        cache_params=CacheParams(load_factor=load_factor) if is_cached else None,
        min_partition=_column_width(padded_dim, shardings, cluster),
    )


def _column_width(padded_dim: int, shardings: Sequence[Sharding], cluster: Cluster) -> int | None:
    """Width of a column shard: equal shards, one per device, each a multiple of four wide."""
    places = {
        "column_wise": cluster.world_size,
        "table_column_wise": cluster.devices_per_node,
        "grid": cluster.num_nodes,
    }
    limits = [places[s] for s in shardings if s in places]
    if not limits:
        return None
    quads = padded_dim // 4
    parts = max(n for n in range(1, min(*limits, quads) + 1) if quads % n == 0)
    return padded_dim // parts
