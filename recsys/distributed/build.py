"""Builds the model of a run on its device, or spread over the devices of many processes."""

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from recsys.config.base import BaseConfig
from recsys.distributed.context import Ranks
from recsys.distributed.run_memory import check_model_memory
from recsys.embeddings.build import build_embeddings
from recsys.embeddings.optimizers.base import TableOptimizerConfig
from recsys.embeddings.tables.plain import PlainGroup
from recsys.errors import RecsysError
from recsys.models.base import BaseModelConfig, SequenceModelConfig, pairs_of
from recsys.models.ctr_model import CTRModel, Forward
from recsys.models.network import build_network
from recsys.schema import Schema

if TYPE_CHECKING:  # keeps the import chain short
    from recsys.config.run import RunConfig
    from recsys.embeddings.config import EmbeddingsConfig


class ModelOnRanks(NamedTuple):
    """The model, what trains it (itself on one device), and the plan of its shards, if any.

    The model is what scores and what is saved. What trains it has the same `forward`; its gradients
    are averaged over ranks.
    """

    model: CTRModel
    forward: Forward
    plan: BaseConfig | None


def build_on_ranks(config: "RunConfig", schema: Schema, ranks: Ranks) -> ModelOnRanks:
    """Builds and initializes the config's model; fused tables are sharded over the ranks."""
    check_model_memory(config, schema, ranks.device)
    is_sharded = config.embeddings.store == "fused" and ranks.host is not None
    model = build_ctr_model(
        config.embeddings,
        config.model,
        config.train.embedding_optimizer,
        schema,
        seed=config.train.seed,
        device=ranks.device,
        is_sharded=is_sharded,
    )
    if ranks.host is None:
        return ModelOnRanks(model, model, None)
    _check_batch_norm(model, ranks)
    if ranks.device.type == "cuda":
        model.network = nn.SyncBatchNorm.convert_sync_batchnorm(model.network)  # type: ignore[no-untyped-call]  # torch's function is untyped
    if not is_sharded:
        _check_gradients_dense(model)
        return ModelOnRanks(model, _data_parallel(model, ranks.device), None)
    from recsys.distributed.sharding import shard_model  # the plain store needs no torchrec

    forward, plan = shard_model(model, config, schema, ranks)
    return ModelOnRanks(model, forward, plan)


def build_ctr_model(
    embeddings: "EmbeddingsConfig",
    model: BaseModelConfig | SequenceModelConfig,
    optimizer: TableOptimizerConfig,
    schema: Schema,
    *,
    seed: int,
    device: torch.device,
    is_sharded: bool = False,
) -> CTRModel:
    """A model with freshly initialized weights that depend on the seed alone.

    `is_sharded` leaves the fused tables on the meta device, for a plan to deal them out.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # what methods learn beside their tables
        features = build_embeddings(
            embeddings, schema, optimizer, device, pairs=pairs_of(model), is_sharded=is_sharded
        )
        torch.manual_seed(seed)
        network = build_network(model, embeddings, schema, features.output_dims)
    if not is_sharded:
        features.store.initialize(seed)
    return CTRModel(features, network.to(device))


def _data_parallel(model: CTRModel, device: torch.device) -> Forward:
    """Every rank has the whole model, tables included."""
    return DistributedDataParallel(
        model,
        device_ids=None if device.type == "cpu" else [device],
        gradient_as_bucket_view=True,
        broadcast_buffers=False,
        static_graph=True,
    )


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
    groups = model.embeddings.store.groups.values()
    sparse = [g.optimizer_config.name for g in groups if isinstance(g, PlainGroup) and g.is_sparse]
    if sparse:
        raise RecsysError(
            "sparse gradients of the plain store are not exchanged between processes",
            where="train.embedding_optimizer.name",
            expected="adam, sgd or rowwise_adagrad, or one process",
            got=sparse[0],
            fix="with embeddings.store: fused, rowwise_adagrad and sgd stay sparse on many devices",
        )
