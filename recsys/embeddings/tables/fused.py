"""FusedGroup: whole tables in one torchrec collection on one device, updated inside backward."""

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

from recsys.compat.torchrec import FusedEmbeddingBagCollection, fused_kernels
from recsys.data.jagged_ids import KeyedIds
from recsys.embeddings.optimizers.base import TableOptimizerConfig
from recsys.embeddings.table_spec import Lookup, TableSpec
from recsys.embeddings.tables.base import TableGroup, TableShard, padded_dim
from recsys.embeddings.tables.torchrec_collection import (
    bag_configs,
    fused_optimizer,
    keyed_jagged_tensor,
    numbered,
    table_name,
)


class FusedGroup(TableGroup):
    """One fused lookup for all tables."""

    columns: Tensor | None

    def __init__(
        self,
        tables: Sequence[TableSpec],
        lookups: Sequence[Lookup],
        optimizer: TableOptimizerConfig,
        device: torch.device,
    ) -> None:
        super().__init__()
        self.lookups, self.numbered = tuple(lookups), numbered(tables, lookups)
        self.tables = tuple(table for _, table in self.numbered)
        self.learning_rate = optimizer.learning_rate
        optimizer_type, arguments = fused_optimizer(optimizer, device)
        self.collection = FusedEmbeddingBagCollection(
            tables=bag_configs(tables, lookups),
            optimizer_type=optimizer_type,
            optimizer_kwargs=arguments,
            device=device,
        )
        for bag in self.collection.embedding_bags.values():
            bag.weight.data.zero_()
        columns = _wanted_columns(self.tables, lookups)
        self.output_dim = len(columns)
        returned_dim = sum(padded_dim(t.dim) * _reads(t, lookups) for t in self.tables)
        is_in_order = columns == list(range(returned_dim))
        self.register_buffer(
            "columns",
            None if is_in_order else torch.tensor(columns, device=device),
            persistent=False,
        )

    def prepare(self, rows: KeyedIds) -> KeyedIds:
        return keyed_jagged_tensor(rows)

    def forward(self, rows: KeyedIds) -> Tensor:
        if rows.stride() == 0:  # fbgemm refuses an empty batch
            return torch.zeros(0, self.output_dim, device=rows.values().device)
        vectors = self.collection(rows).values()  # (B, Σ padded d), table by table
        return vectors if self.columns is None else vectors.index_select(1, self.columns)

    def shards(self) -> Iterator[TableShard]:
        for i, table in self.numbered:
            yield TableShard(table, 0, 0, self._padded_weight(i)[:, : table.dim])

    def state(self) -> dict[str, Tensor]:
        state = self.collection.fused_optimizer().state_dict()["state"]
        named = {}
        for i, table in self.numbered:
            named[f"{table.name}/weight"] = self._padded_weight(i)
            for name, value in state.get(f"{table_name(i)}.weight", {}).items():
                # torchrec writes momentum_1 here and momentum1 in a sharded collection
                slot = name.rsplit(".", 1)[1].replace("_", "")
                named[f"{table.name}/{slot}"] = value
        return named

    def kernels(self) -> Iterable[nn.Module]:
        return fused_kernels(self.collection)

    def _padded_weight(self, index: int) -> Tensor:
        weight: Tensor = self.collection.embedding_bags[table_name(index)].weight.data
        return weight

    def scale_learning_rate(self, factor: float) -> None:
        optimizer = self.collection.fused_optimizer()
        for group in optimizer.param_groups:
            group["lr"] = self.learning_rate * factor
        optimizer.step()  # hands the rate to fbgemm; the tables are not touched


def _reads(table: TableSpec, lookups: Sequence[Lookup]) -> int:
    return sum(look.table == table.name for look in lookups)


def _wanted_columns(tables: Sequence[TableSpec], lookups: Sequence[Lookup]) -> list[int]:
    """The columns of each lookup, in order, within torchrec's output, which is table by table."""
    first_column, start = {}, 0
    for table in tables:
        for look in lookups:
            if look.table == table.name:
                first_column[look.key] = start
                start += padded_dim(table.dim)
    dims = {table.name: table.dim for table in tables}
    return [
        first_column[look.key] + column for look in lookups for column in range(dims[look.table])
    ]
