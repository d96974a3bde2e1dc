"""Refuses a model that this machine's memory cannot hold, before its tables are allocated."""

import torch

from recsys.config.dense_optimizers import DENSE_OPTIMIZERS
from recsys.config.run import RunConfig
from recsys.distributed.planner.dry_run import count_run_bytes, meta_embeddings
from recsys.embeddings.records import FLOAT_BYTES
from recsys.io.memory import check_memory
from recsys.models.network import build_network
from recsys.schema import Schema


def check_model_memory(config: RunConfig, schema: Schema, device: torch.device) -> None:
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


def _network_bytes(config: RunConfig, schema: Schema) -> int:
    widths = meta_embeddings(config, schema).output_dims
    with torch.device("meta"):
        network = build_network(config.model, config.embeddings, schema, widths)
    # each weight, its gradient, and the optimizer's state
    floats = 2 + DENSE_OPTIMIZERS[config.train.dense_optimizer.name].state_floats
    return sum(weight.numel() for weight in network.parameters()) * FLOAT_BYTES * floats
