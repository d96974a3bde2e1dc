"""build_store: the tables of a run in named groups of the kind that config and devices ask for."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

import torch

from recsys.compat.fbgemm import check_fused
from recsys.embeddings.optimizers.base import TableOptimizerConfig
from recsys.embeddings.table_spec import Lookup, TableSpec
from recsys.embeddings.tables.base import TableGroup, TableStore
from recsys.embeddings.tables.plain import PlainGroup

StoreKind = Literal["fused", "plain", "sharded"]
GroupType = Callable[
    [Sequence[TableSpec], Sequence[Lookup], TableOptimizerConfig, torch.device], TableGroup
]


class GroupSpec(NamedTuple):
    """One group of tables: the lookups that read them, and their optimizer."""

    lookups: Sequence[Lookup]
    optimizer: TableOptimizerConfig


def build_store(
    kind: StoreKind,
    tables: Sequence[TableSpec],
    groups: Mapping[str, GroupSpec],
    device: torch.device,
) -> TableStore:
    """The tables that each group's lookups read, in groups of one kind."""
    group_type = _group_type(kind, device)
    return TableStore(
        {
            name: group_type(tables, spec.lookups, spec.optimizer, device)
            for name, spec in groups.items()
        }
    )


def _group_type(kind: StoreKind, device: torch.device) -> GroupType:
    """The class of the groups; torchrec is imported for those that need it, and for no other."""
    if kind == "plain":
        return PlainGroup
    check_fused(device)
    if kind == "sharded":
        from recsys.embeddings.tables.sharded import ShardedGroup

        return ShardedGroup
    from recsys.embeddings.tables.fused import FusedGroup

    return FusedGroup
