"""Shards the fused tables of a model over the devices of many processes, as planned."""

import torch

from recsys.compat.torchrec import (
    DistributedModelParallel,
    EmbeddingBagCollectionSharder,
    ShardingEnv,
)
from recsys.config.run import RunConfig
from recsys.distributed.context import Ranks, local_world_size
from recsys.distributed.planner.cluster import this_cluster
from recsys.distributed.planner.description import PlanDescription, describe_plan
from recsys.distributed.planner.suggestions import plan_run
from recsys.distributed.run_memory import count_run_bytes
from recsys.embeddings.tables.sharded import sharded_groups
from recsys.models.ctr_model import STORE_PREFIX, CTRModel, Forward
from recsys.schema import Schema


def shard_model(
    model: CTRModel, config: RunConfig, schema: Schema, ranks: Ranks
) -> tuple[Forward, PlanDescription]:
    """Places the tables as planned and wraps the rest for data parallel training.

    The model is changed in place; what is returned trains it.
    """
    here = this_cluster(ranks.world_size, local_world_size(), ranks.device.type)
    plan = plan_run(config, schema, ranks.broadcast(here))
    groups = sharded_groups(model.embeddings.store)
    names = {
        f"{STORE_PREFIX}group_modules.{name}.collection": group.planned_names
        for name, group in groups.items()
    }
    wrapped = DistributedModelParallel(
        model,
        env=ShardingEnv.from_process_group(torch.distributed.group.WORLD),
        device=ranks.device,
        plan=plan.sharding_plan_of(names),
        sharders=[EmbeddingBagCollectionSharder()],
    )
    for group in groups.values():
        group.after_sharding()
    model.embeddings.store.initialize(config.train.seed)
    return wrapped, describe_plan(plan, model.embeddings, count_run_bytes(config, schema))
