"""build_store: the tables of a run, in groups of the kind that config and devices ask for."""

from collections.abc import Collection, Sequence
from typing import Literal, NamedTuple

import torch

from recsys.embeddings.methods.base import Lookup, TableSpec
from recsys.embeddings.tables.base import TableGroup, TableStore
from recsys.embeddings.tables.fused import FusedGroup
from recsys.embeddings.tables.optimizers import TableOptimizerConfig
from recsys.embeddings.tables.plain import PlainGroup
from recsys.embeddings.tables.sharded import ShardedGroup

StoreKind = Literal["fused", "plain", "sharded"]
GROUPS: dict[StoreKind, type[FusedGroup] | type[PlainGroup] | type[ShardedGroup]] = {
    "fused": FusedGroup,
    "plain": PlainGroup,
    "sharded": ShardedGroup,
}


class Reads(NamedTuple):
    """How the tables are read.

    bags: lookups pooled by row of the batch. occurrences, attention: tables whose rows come one by
    one, and those of them that only attention reads, at `attention_learning_rate` (None: as all).
    """

    bags: Sequence[Lookup]
    occurrences: Collection[str] = ()
    attention: Collection[str] = ()
    attention_learning_rate: float | None = None


def build_store(
    kind: StoreKind,
    tables: Sequence[TableSpec],
    reads: Reads,
    optimizer: TableOptimizerConfig,
    device: torch.device,
) -> TableStore:
    """The tables in as many groups as `reads` asks for."""

    def group(lookups: Sequence[Lookup], how: TableOptimizerConfig) -> TableGroup | None:
        return GROUPS[kind](tables, lookups, how, device) if lookups else None

    def one_by_one(names: Collection[str]) -> list[Lookup]:
        return [Lookup(occurrence_key(t.name), t.name) for t in tables if t.name in names]

    rate = reads.attention_learning_rate
    attention = optimizer if rate is None else optimizer.model_copy(update={"learning_rate": rate})
    return TableStore(
        group(reads.bags, optimizer),
        group(one_by_one(reads.occurrences), optimizer),
        group(one_by_one(reads.attention), attention),
    )


def occurrence_key(table: str) -> str:
    """The key under which the occurrences of a table's rows are looked up."""
    return f"{table}/rows"


def sharded_groups(store: TableStore) -> dict[str, ShardedGroup]:
    """The groups that a plan deals out, by their place in the store; none in one process."""
    named = {"bags": store.bags, "occurrences": store.occurrences, "attention": store.attention}
    return {name: group for name, group in named.items() if isinstance(group, ShardedGroup)}
