"""ShardedGroup: the tables of one torchrec collection, placed on many devices by a plan.

Made on the meta device; `DistributedModelParallel` replaces the collection by its shards, then
`after_sharding` is called. Backward updates the shards; tables that every rank holds whole
(data_parallel) get a gradient and are updated by `step`.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from recsys.compat.torchrec import (
    apply_optimizer_in_backward,
    in_backward_optimizer_filter,
)
from recsys.data.jagged_ids import KeyedIds
from recsys.embeddings.optimizers.base import TableOptimizerConfig
from recsys.embeddings.table_spec import Lookup, TableSpec
from recsys.embeddings.tables.base import TableGroup, TableShard, TableStore
from recsys.embeddings.tables.torchrec_collection import (
    build_collection,
    fused_optimizer,
    keyed_jagged_tensor,
    numbered,
    table_name,
)


class ShardedGroup(TableGroup):
    """Shards of tables; each lookup is a collective, so all ranks look up together."""

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
        dims = {table.name: table.dim for table in tables}
        self.keys_and_dims = [(look.key, dims[look.table]) for look in lookups]
        self.optimizer_type, self.optimizer_kwargs = fused_optimizer(optimizer, device)
        self.collection: nn.Module = build_collection(tables, lookups, torch.device("meta"))
        apply_optimizer_in_backward(
            self.optimizer_type,
            self.collection.parameters(),
            dict(self.optimizer_kwargs),  # torchrec writes into it
        )
        self.replicated: dict[str, nn.Parameter] = {}
        self.optimizer: torch.optim.Optimizer | None = None

    def after_sharding(self) -> None:
        """Finds the tables that are replicated and gives them their optimizer."""
        parameters = dict(in_backward_optimizer_filter(self.collection.named_parameters()))
        for i, table in self.numbered:
            parameter = parameters.get(_weight_name(i))
            if parameter is not None:
                self.replicated[table.name] = parameter
        if self.replicated:
            self.optimizer = self.optimizer_type(
                list(self.replicated.values()),
                **self.optimizer_kwargs,  # type: ignore[arg-type]  # lr, eps, betas
            )
        with torch.no_grad():
            for weight in self._local_weights():
                weight.zero_()

    @property
    def planned_names(self) -> list[str]:
        """What a plan calls these tables."""
        return [table_name(i) for i, _ in self.numbered]

    def prepare(self, rows: KeyedIds) -> KeyedIds:
        return keyed_jagged_tensor(rows)

    def forward(self, rows: KeyedIds) -> Tensor:
        answer = self.collection(rows)  # columns grouped by sharding type
        return torch.cat([answer[key][:, :dim] for key, dim in self.keys_and_dims], dim=1)

    def shards(self) -> Iterator[TableShard]:
        weights = self.collection.state_dict()
        for i, table in self.numbered:
            for first_row, first_column, weight in _pieces(weights[_weight_name(i)]):
                columns = min(weight.shape[1], table.dim - first_column)
                if columns > 0:
                    yield TableShard(table, first_row, first_column, weight[:, :columns])

    def state(self) -> dict[str, Tensor]:
        weights = self.collection.state_dict()
        fused = self.collection.fused_optimizer.state_dict()["state"]  # type: ignore[union-attr]
        named = {}
        for i, table in self.numbered:
            named[f"{table.name}/weight"] = weights[_weight_name(i)].detach()
            for name, value in fused.get(_weight_name(i), {}).items():
                named[f"{table.name}/{name.rsplit('.', 1)[1]}"] = value
        named.update(self._replicated_state())
        return named

    def _replicated_state(self) -> dict[str, Tensor]:
        if self.optimizer is None:
            return {}
        return {
            # torchrec's row-wise Adagrad and fbgemm's name and shape it differently
            f"{table}/momentum1": self.optimizer.state[parameter]["sum"].view(-1)
            for table, parameter in self.replicated.items()
            if "sum" in self.optimizer.state[parameter]
        }

    def step(self) -> None:
        if self.optimizer is not None:
            self.optimizer.step()

    def scale_learning_rate(self, factor: float) -> None:
        fused = self.collection.fused_optimizer
        groups = list(fused.param_groups)  # type: ignore[union-attr, arg-type]  # torchrec's collection is an nn.Module to mypy
        if self.optimizer is not None:
            groups += self.optimizer.param_groups
        for group in groups:
            group["lr"] = self.learning_rate * factor
        fused.step()  # type: ignore[union-attr, operator]  # hands the rate to fbgemm

    def _local_weights(self) -> Iterator[Tensor]:
        weights = self.collection.state_dict()
        for i, _ in self.numbered:
            yield from (weight for *_, weight in _pieces(weights[_weight_name(i)]))


def sharded_groups(store: TableStore) -> dict[str, ShardedGroup]:
    """The groups that a plan shards, by name; none in one process."""
    return {name: g for name, g in store.groups.items() if isinstance(g, ShardedGroup)}


def _weight_name(index: int) -> str:
    return f"embedding_bags.{table_name(index)}.weight"


def _pieces(weight: Tensor) -> Iterator[tuple[int, int, Tensor]]:
    """First row, first column and values of each local piece of a sharded or whole tensor."""
    if not hasattr(weight, "local_shards"):
        yield 0, 0, weight.detach()
        return
    for shard in weight.local_shards():
        first_row, first_column = shard.metadata.shard_offsets
        yield first_row, first_column, shard.tensor.detach()
