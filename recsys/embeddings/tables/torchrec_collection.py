"""The tables as one torchrec collection: what the planner plans and what a sharded store shards."""

from collections.abc import Sequence

import torch

from recsys.compat.torchrec import (
    EmbeddingBagCollection,
    EmbeddingBagConfig,
    KeyedJaggedTensor,
    PoolingType,
)
from recsys.data.jagged_ids import JaggedIds, KeyedIds
from recsys.embeddings.optimizers import TABLE_OPTIMIZERS
from recsys.embeddings.optimizers.base import FusedOptimizer, TableOptimizerConfig
from recsys.embeddings.table_spec import Lookup, TableSpec
from recsys.embeddings.tables.base import padded_dim
from recsys.errors import RecsysError


def table_name(index: int) -> str:
    """The name of the table at that place; torchrec makes attributes of names: not any will do."""
    return f"t{index}"


def numbered(tables: Sequence[TableSpec], lookups: Sequence[Lookup]) -> list[tuple[int, TableSpec]]:
    """The tables that are read, with their places among all: the places make their names."""
    read = {look.table for look in lookups}
    return [(i, table) for i, table in enumerate(tables) if table.name in read]


def bag_configs(tables: Sequence[TableSpec], lookups: Sequence[Lookup]) -> list[EmbeddingBagConfig]:
    """The tables that are read, named t0, t1 … by place; rows padded to multiples of four."""
    return [
        EmbeddingBagConfig(
            name=table_name(i),
            num_embeddings=table.num_rows,
            embedding_dim=padded_dim(table.dim),
            feature_names=[look.key for look in lookups if look.table == table.name],
            pooling=PoolingType.SUM,
        )
        for i, table in numbered(tables, lookups)
    ]


def build_collection(
    tables: Sequence[TableSpec], lookups: Sequence[Lookup], device: torch.device
) -> EmbeddingBagCollection:
    """The collection of `bag_configs`."""
    return EmbeddingBagCollection(tables=bag_configs(tables, lookups), device=device)


def keyed_jagged_tensor(rows: KeyedIds) -> KeyedIds:
    """The same row numbers as torchrec takes them; no tensor is copied.

    Made before a batch goes to a GPU: the sizes that torchrec needs per key are known here, on a
    GPU it would have to wait for them. It must be in the batch itself, because torchrec's pipeline
    traces the forward pass back to a field of the batch.
    """
    if not isinstance(rows, JaggedIds):
        return rows
    return KeyedJaggedTensor(
        keys=rows.keys(),
        values=rows.values(),
        lengths=rows.lengths(),
        offsets=rows.given_offsets,
        stride=rows.stride(),
        length_per_key=rows.length_per_key(),
        offset_per_key=rows.offset_per_key(),
    ).sync()


def fused_optimizer(config: TableOptimizerConfig, device: torch.device) -> FusedOptimizer:
    """The optimizer as fbgemm has it; refuses one that fbgemm does not have on this device."""
    found = config.fused(device)
    if found is not None:
        return found
    known = [kind.model_validate({"learning_rate": 1.0}) for kind in TABLE_OPTIMIZERS]
    fused = [optimizer.name for optimizer in known if optimizer.fused(device) is not None]
    raise RecsysError(
        f"the fused store has no {config.name} on this device ({device.type})",
        where="train.embedding_optimizer.name",
        expected=" or ".join(fused),
        got=config.name,
        fix="choose one of these, or set embeddings.store: plain",
    )
