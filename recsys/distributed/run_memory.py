"""What a run's model takes in memory, counted on the meta device before anything is allocated."""

from typing import TYPE_CHECKING

import torch

from recsys.config.dense_optimizers import DENSE_OPTIMIZERS
from recsys.embeddings.build import build_embeddings
from recsys.embeddings.collection import FeatureEmbeddings
from recsys.embeddings.memory import Optimizers, check_budget, count_bytes
from recsys.embeddings.optimizers.sgd import SgdConfig
from recsys.embeddings.records import FLOAT_BYTES, EmbeddingBytes
from recsys.io.memory import check_memory
from recsys.models.base import pairs_of
from recsys.models.network import build_network, projected_floats
from recsys.schema import Schema

if TYPE_CHECKING:  # keeps the import chain short
    from recsys.config.run import RunConfig


def check_model_memory(config: "RunConfig", schema: Schema, device: torch.device) -> None:
    """Compares the tables, their optimizer state and the network with the CPU's memory.

    Raises:
        RecsysError: names the feature whose tables are largest. GPUs are planned by torchrec.
    """
    if device.type != "cpu":
        return
    counted = count_run_bytes(config, schema)
    largest = max(counted.features, key=lambda name: counted.features[name].train_bytes)
    facts = counted.features[largest]
    check_memory(
        counted.train_bytes,
        "the embedding tables and their optimizer state",
        where=f"{largest}, the largest: {facts.cardinality:,} ids, {facts.train_bytes:,} bytes",
        fix="fewer ids (min_count, hashing), a smaller embedding_dim, or a compressed method",
    )
    check_memory(
        counted.train_bytes + _network_bytes(config, schema),
        "the network beside its embedding tables",
        where="model",
        fix="smaller hidden_dims",
    )


def _network_bytes(config: "RunConfig", schema: Schema) -> int:
    widths = meta_embeddings(config, schema).output_dims
    with torch.device("meta"):
        network = build_network(config.model, config.embeddings, schema, widths)
    # each weight, its gradient, and the optimizer's state
    floats = 2 + DENSE_OPTIMIZERS[config.train.dense_optimizer.name].state_floats
    return sum(weight.numel() for weight in network.parameters()) * FLOAT_BYTES * floats


def count_run_bytes(config: "RunConfig", schema: Schema) -> EmbeddingBytes:
    """What the run's embeddings take, all devices together; nothing is allocated for it."""
    found = meta_embeddings(config, schema)
    optimizers = Optimizers(config.train.embedding_optimizer, config.train.dense_optimizer.name)
    projections = projected_floats(config.model, config.embeddings, schema, found.output_dims)
    return count_bytes(found.methods, config.embeddings, optimizers, projections)


def check_run_budget(config: "RunConfig", schema: Schema) -> None:
    """Refuses a run whose embeddings take more than `embeddings.budget`."""
    if config.embeddings.budget is not None:
        check_budget(count_run_bytes(config, schema), config.embeddings)


def meta_embeddings(config: "RunConfig", schema: Schema) -> FeatureEmbeddings:
    """The features, methods and tables of a run; the tables are on the meta device."""
    as_plain = config.embeddings.model_copy(update={"store": "plain"})
    # any optimizer, with an L2 of rows if the run has one, which leaves sequences unpooled
    has_row_l2 = config.train.embedding_optimizer.has_row_l2(config.embeddings.store)
    optimizer, pairs = SgdConfig(learning_rate=1.0, l2=float(has_row_l2)), pairs_of(config.model)
    return build_embeddings(as_plain, schema, optimizer, torch.device("meta"), pairs=pairs)
