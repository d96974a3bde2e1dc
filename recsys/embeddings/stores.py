"""build_store: the tables of a run, in groups of the kind that config and devices ask for."""

from collections.abc import Collection, Sequence
from typing import Literal

import torch

from recsys.embeddings.base import Lookup, TableSpec
from recsys.embeddings.fused_group import FusedGroup
from recsys.embeddings.optimizers import TableOptimizerConfig
from recsys.embeddings.plain_group import PlainGroup
from recsys.embeddings.sharded_group import ShardedGroup
from recsys.embeddings.table_store import TableGroup, TableStore

StoreKind = Literal["fused", "plain", "sharded"]
GROUPS: dict[StoreKind, type[FusedGroup] | type[PlainGroup] | type[ShardedGroup]] = {
    "fused": FusedGroup,
    "plain": PlainGroup,
    "sharded": ShardedGroup,
}


def build_store(
    kind: StoreKind,
    tables: Sequence[TableSpec],
    lookups: Sequence[Lookup],
    occurrence_tables: Collection[str],
    optimizer: TableOptimizerConfig,
    device: torch.device,
) -> TableStore:
    """`lookups` are pooled by row of the batch; the rows of `occurrence_tables` come one by one."""

    def group(reads: Sequence[Lookup]) -> TableGroup | None:
        return GROUPS[kind](tables, reads, optimizer, device) if reads else None

    names = [table.name for table in tables if table.name in occurrence_tables]
    return TableStore(group(lookups), group([Lookup(occurrence_key(n), n) for n in names]))


def occurrence_key(table: str) -> str:
    """The key under which the occurrences of a table's rows are looked up."""
    return f"{table}/rows"


def sharded_groups(store: TableStore) -> dict[str, ShardedGroup]:
    """The groups that a plan deals out, by their place in the store; none in one process."""
    named = {"bags": store.bags, "occurrences": store.occurrences}
    return {name: group for name, group in named.items() if isinstance(group, ShardedGroup)}
