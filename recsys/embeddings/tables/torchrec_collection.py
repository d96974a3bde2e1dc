"""The tables as one torchrec collection: what the planner plans and what a sharded store shards."""

from collections.abc import Sequence

import torch

from recsys.compat.torchrec import EmbeddingBagCollection, EmbeddingBagConfig, PoolingType
from recsys.embeddings.methods.base import Lookup, TableSpec
from recsys.embeddings.tables.base import padded_dim


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
