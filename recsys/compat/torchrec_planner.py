"""What planning needs of torchrec, imported after `torchrec_quietly` has kept its imports quiet."""

from recsys.compat.torchrec import EmbeddingBagCollectionSharder

# isort: split
from torchrec.distributed.planner import EmbeddingShardingPlanner
from torchrec.distributed.planner.enumerators import EmbeddingEnumerator
from torchrec.distributed.planner.proposers import (
    GreedyProposer,
    GridSearchProposer,
    UniformProposer,
)
from torchrec.distributed.planner.storage_reservations import FixedPercentageStorageReservation
from torchrec.distributed.planner.types import (
    ParameterConstraints,
    PlannerError,
    Proposer,
    Shard,
    ShardingOption,
    Topology,
)
from torchrec.distributed.types import CacheParams, EmbeddingModuleShardingPlan, ShardingPlan

__all__ = [
    "CacheParams",
    "EmbeddingBagCollectionSharder",
    "EmbeddingEnumerator",
    "EmbeddingModuleShardingPlan",
    "EmbeddingShardingPlanner",
    "FixedPercentageStorageReservation",
    "GreedyProposer",
    "GridSearchProposer",
    "ParameterConstraints",
    "PlannerError",
    "Proposer",
    "Shard",
    "ShardingOption",
    "ShardingPlan",
    "Topology",
    "UniformProposer",
]
