"""make_plan: torchrec's planner for our tables, with the same result in every process.

Needs no GPU and no process group: the tables are on the meta device.
"""

import logging
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from recsys.compat.torchrec import EmbeddingBagCollection, apply_optimizer_in_backward
from recsys.compat.torchrec_planner import (
    EmbeddingBagCollectionSharder,
    EmbeddingModuleShardingPlan,
    EmbeddingShardingPlanner,
    FixedPercentageStorageReservation,
    ParameterConstraints,
    PlannerError,
    ShardingOption,
    ShardingPlan,
)
from recsys.config.byte_sizes import format_bytes
from recsys.distributed.planner.choices import constraints, sharding_choices
from recsys.distributed.planner.cluster import Cluster
from recsys.distributed.planner.proposals import OrderedEnumerator, proposers, table_index
from recsys.embeddings.optimizers.base import TableOptimizerConfig
from recsys.embeddings.table_spec import Lookup, TableSpec
from recsys.embeddings.tables.placement import PlacementConfig
from recsys.embeddings.tables.torchrec_collection import (
    build_collection,
    fused_optimizer,
    table_name,
)
from recsys.errors import RecsysError


class DoesNotFitError(RecsysError):
    """No plan fits the tables into the devices' memory."""


@dataclass(frozen=True)
class PlanRequest:
    """All inputs of a plan.

    `placements` by table name; `pooling_factors` by lookup key, mean rows per sample, 1 if absent.
    """

    tables: Sequence[TableSpec]
    lookups: Sequence[Lookup]
    optimizer: TableOptimizerConfig
    placements: Mapping[str, PlacementConfig]
    cluster: Cluster
    batch_size_per_rank: int
    pooling_factors: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class FoundPlan:
    """A plan: torchrec's sharding option for each table, in order, with the ranks of its shards."""

    request: PlanRequest
    options: tuple[ShardingOption, ...]
    module_plan: EmbeddingModuleShardingPlan

    def sharding_plan(self, path: str) -> ShardingPlan:
        """The plan for a model whose collection is the module `path`."""
        return ShardingPlan({path: self.module_plan})

    def sharding_plan_of(self, names: Mapping[str, Collection[str]]) -> ShardingPlan:
        """The plan for a model with several collections: the tables' names by module path."""
        return ShardingPlan(
            {
                path: EmbeddingModuleShardingPlan({name: self.module_plan[name] for name in tables})
                for path, tables in names.items()
            }
        )


def make_plan(
    tables: Sequence[TableSpec],
    lookups: Sequence[Lookup],
    optimizer: TableOptimizerConfig,
    placements: Mapping[str, PlacementConfig],
    cluster: Cluster,
    batch_size_per_rank: int,
    path: str = "",
) -> ShardingPlan:
    """The plan of `find_plan`, keyed by the collection's `path` inside the model."""
    request = PlanRequest(tables, lookups, optimizer, placements, cluster, batch_size_per_rank)
    return find_plan(request).sharding_plan(path)


def find_plan(request: PlanRequest, *, is_quick: bool = False) -> FoundPlan:
    """The fastest plan that torchrec's planner finds, by its own estimate of the time of a step.

    A quick search first tries a few of the same plans: if one of them fits, the tables fit.

    Raises:
        DoesNotFitError: if no plan fits.
        RecsysError: for a placement that is not available.
    """
    chosen: list[ShardingOption] = []

    def remember(best: list[ShardingOption]) -> list[ShardingOption]:
        chosen.extend(best)
        return best

    with _silence():
        collection = _meta_collection(request)
        cluster, limits = request.cluster.topology(), _constraints(request, collection)
        planner = EmbeddingShardingPlanner(
            topology=cluster,
            batch_size=request.batch_size_per_rank,
            constraints=limits,
            enumerator=OrderedEnumerator(
                topology=cluster, batch_size=request.batch_size_per_rank, constraints=limits
            ),
            proposer=proposers(is_quick=is_quick),
            # the cluster has already subtracted its reserve, on CPU too
            storage_reservation=FixedPercentageStorageReservation(0.0),
            stats=[],
            callbacks=[remember],
        )
        try:
            plan = planner.plan(collection, [EmbeddingBagCollectionSharder()])
        except PlannerError:
            raise does_not_fit(request.cluster) from None
    options = tuple(sorted(chosen, key=lambda option: table_index(option.name)))
    return FoundPlan(request, options, plan.plan[""])


def does_not_fit(cluster: Cluster) -> DoesNotFitError:
    """The message without suggestions; `suggestions` adds them."""
    room = format_bytes(cluster.table_bytes)
    return DoesNotFitError(
        f"the tables do not fit on {cluster.world_size} × {cluster.device_type}",
        expected=f"at most {room} on each for tables, optimizer state and buffers",
    )


def _meta_collection(request: PlanRequest) -> EmbeddingBagCollection:
    device = torch.device(request.cluster.device_type)
    optimizer_type, kwargs = fused_optimizer(request.optimizer, device)
    collection = build_collection(request.tables, request.lookups, torch.device("meta"))
    apply_optimizer_in_backward(optimizer_type, collection.parameters(), kwargs)
    return collection


def _constraints(
    request: PlanRequest, collection: EmbeddingBagCollection
) -> dict[str, ParameterConstraints]:
    found = {}
    for i, table in enumerate(request.tables):
        placement = request.placements.get(table.name, PlacementConfig())
        keys = [look.key for look in request.lookups if look.table == table.name]
        found[table_name(i)] = constraints(
            collection.embedding_bags[table_name(i)].weight.shape[1],
            placement,
            sharding_choices(table, placement, request.optimizer, request.cluster),
            request.cluster,
            [request.pooling_factors.get(key, 1.0) for key in keys],
        )
    return found


@contextmanager
def _silence() -> Iterator[None]:
    """The planner's warnings and logs are meant for torchrec's authors."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
