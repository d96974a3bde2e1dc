"""Builds the model of a run on its device, or sharded over the devices of many processes."""

from typing import NamedTuple

import torch

from recsys.compat.torchrec import (
    DistributedModelParallel,
    EmbeddingBagCollectionSharder,
    ShardingEnv,
    ShardingPlan,
)
from recsys.config.run import RunConfig
from recsys.distributed.context import Ranks, local_world_size
from recsys.distributed.planner.cluster import this_cluster
from recsys.distributed.planner.memory_check import check_model_memory
from recsys.distributed.planner.planner import FoundPlan
from recsys.distributed.planner.run_plan import plan_run
from recsys.embeddings.tables.build import sharded_groups
from recsys.embeddings.tables.plain import PlainGroup
from recsys.errors import RecsysError
from recsys.models.ctr_model import STORE_PREFIX, CTRModel, Forward, build_ctr_model
from recsys.schema import Schema


class ModelOnRanks(NamedTuple):
    """The model, what trains it (the model itself on one device), and the sharding plan."""

    model: CTRModel
    forward: Forward
    plan: FoundPlan | None


def build_on_ranks(config: RunConfig, schema: Schema, ranks: Ranks) -> ModelOnRanks:
    """Builds and initializes the config's model; fused tables are sharded over the ranks."""
    seed = config.train.seed
    check_model_memory(config, schema, ranks.device)
    is_sharded = config.embeddings.store == "fused" and ranks.host is not None
    model = build_ctr_model(
        config.embeddings,
        config.model,
        config.train.embedding_optimizer,
        schema,
        seed=seed,
        device=ranks.device,
        is_sharded=is_sharded,
    )
    if ranks.host is None:
        return ModelOnRanks(model, model, None)
    if not is_sharded:
        return ModelOnRanks(model, distribute(model, ShardingPlan({}), ranks, seed), None)
    here = this_cluster(ranks.world_size, local_world_size(), ranks.device.type)
    plan = plan_run(config, schema, ranks.broadcast(here))
    names = {
        f"{STORE_PREFIX}{place}.collection": group.planned_names
        for place, group in sharded_groups(model.embeddings.store).items()
    }
    sharding = plan.sharding_plan_of(names)
    return ModelOnRanks(model, distribute(model, sharding, ranks, seed), plan)


def distribute(model: CTRModel, plan: ShardingPlan, ranks: Ranks, seed: int) -> Forward:
    """Shards the tables as planned and wraps the rest for data parallel training.

    The model is changed in place and is still what scores and what is saved. The returned wrapper
    has the same `forward` and is used for training: it averages gradients over ranks.
    """
    _check_batch_norm(model, ranks)
    _check_gradients_dense(model)
    if ranks.device.type == "cuda":
        convert = torch.nn.SyncBatchNorm.convert_sync_batchnorm
        model.network = convert(model.network)  # type: ignore[no-untyped-call]  # torch's function is untyped
    groups = sharded_groups(model.embeddings.store).values()
    wrapped = DistributedModelParallel(
        model,
        env=ShardingEnv.from_process_group(torch.distributed.group.WORLD),
        device=ranks.device,
        plan=plan,
        sharders=[EmbeddingBagCollectionSharder()] if groups else [],
    )
    for group in groups:
        group.after_sharding()
    if groups:
        model.embeddings.store.initialize(seed)
    return wrapped


def _check_batch_norm(model: CTRModel, ranks: Ranks) -> None:
    norms = [m for m in model.network.modules() if isinstance(m, torch.nn.BatchNorm1d)]
    if norms and ranks.device.type == "cpu" and ranks.world_size > 1:
        raise RecsysError(
            "batch_norm needs the statistics of the whole batch, which CPU processes do not share",
            where="model.batch_norm",
            expected="false, or one process, or GPUs",
            got=f"true on {ranks.world_size} CPU processes",
        )


def _check_gradients_dense(model: CTRModel) -> None:
    groups = model.embeddings.store.groups
    if any(isinstance(group, PlainGroup) and group.is_sparse for group in groups):
        raise RecsysError(
            "sparse gradients of the plain store are not exchanged between processes",
            where="train.embedding_optimizer.name",
            expected="adam, sgd or rowwise_adagrad, or one process",
            got="sparse_adam",
            fix="with embeddings.store: fused, rowwise_adagrad and sgd stay sparse on many devices",
        )
