"""TableStore: where physical tables live and how they are looked up, whole or in shards."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from recsys.data.jagged_ids import KeyedIds
from recsys.embeddings.table_spec import Lookup, RowsOf, TableSpec, TensorInit

ROWS_DRAWN_AT_ONCE = 1 << 20


class TableShard(NamedTuple):
    """The piece of a table that this process holds: rows and columns from its first ones on.

    `weight` is a live view, (rows, columns), without the columns that only pad a row.
    """

    table: TableSpec
    first_row: int
    first_column: int
    weight: Tensor


class TableGroup(nn.Module, ABC):
    """Tables that are looked up together, and their optimizer.

    Maps row numbers, one key per lookup, to the sum-pooled vectors of all lookups side by side,
    (B, Σd), in lookup order. Where rows are wanted one by one, each list has one row number.
    """

    tables: tuple[TableSpec, ...]
    lookups: tuple[Lookup, ...]

    def prepare(self, rows: KeyedIds) -> KeyedIds:
        """Row numbers in the form that `forward` takes; the loader's threads call it."""
        return rows

    @abstractmethod
    def forward(self, rows: KeyedIds) -> Tensor:
        """Row numbers by lookup key → (B, Σd) sums, in lookup order."""

    @abstractmethod
    def shards(self) -> Iterator[TableShard]:
        """The pieces that this process holds; whole tables where nothing is sharded."""

    @abstractmethod
    def state(self) -> dict[str, Tensor]:
        """Live weights and optimizer state by name: `{table}/weight`, `{table}/momentum1`.

        The names and the whole shapes are the same however the tables are sharded; a shard comes
        as a ShardedTensor. Rows may be padded.
        """

    @abstractmethod
    def scale_learning_rate(self, factor: float) -> None:
        """Sets the tables' learning rate to `factor` × the configured one."""

    def step(self) -> None:
        """Updates the tables that backward has not updated itself."""

    def optimizers(self) -> list[torch.optim.Optimizer]:
        """Optimizers whose state a checkpoint must hold beside `state`."""
        return []

    def kernels(self) -> Iterable[nn.Module]:
        """The fused lookups, which count the steps that they make."""
        return (m for m in self.modules() if hasattr(m, "set_optimizer_step"))

    def restore_step_count(self, steps: int) -> None:
        """Tells the kernels how many steps they have made (Adam's bias correction)."""
        for kernel in self.kernels():
            kernel.set_optimizer_step(steps)  # type: ignore[operator]  # fbgemm's kernels are nn.Modules to mypy
            kernel.iter_cpu.fill_(steps)  # type: ignore[operator]  # its own copy


class TableStore(nn.Module):
    """All tables, in named groups: each has its own lookups, and may have its own learning rate."""

    def __init__(self, groups: Mapping[str, TableGroup]) -> None:
        super().__init__()
        self.groups = dict(groups)
        self.group_modules = nn.ModuleDict(groups)  # the same groups, as torch's parameters

    @property
    def tables(self) -> tuple[TableSpec, ...]:
        """Those of all groups."""
        return tuple(table for group in self.groups.values() for table in group.tables)

    def shards(self) -> Iterator[TableShard]:
        """The pieces of tables that this process holds."""
        return (shard for group in self.groups.values() for shard in group.shards())

    def state(self) -> dict[str, Tensor]:
        """Live weights and optimizer state of all tables, see `TableGroup.state`."""
        return {
            name: value for group in self.groups.values() for name, value in group.state().items()
        }

    def scale_learning_rate(self, factor: float) -> None:
        """Sets the tables' learning rate to `factor` × the configured one."""
        for group in self.groups.values():
            group.scale_learning_rate(factor)

    def step(self) -> None:
        """Updates the tables that backward has not updated itself."""
        for group in self.groups.values():
            group.step()

    def optimizers(self) -> list[torch.optim.Optimizer]:
        """Optimizers whose state a checkpoint must hold beside `state`."""
        return [optimizer for group in self.groups.values() for optimizer in group.optimizers()]

    def restore_step_count(self, steps: int) -> None:
        """Tells the kernels how many steps they have made (Adam's bias correction)."""
        for group in self.groups.values():
            group.restore_step_count(steps)

    def weights(self) -> dict[str, Tensor]:
        """Live views of whole tables, (num_rows, dim) by table name."""
        return {shard.table.name: shard.weight for shard in self.shards()}

    @torch.no_grad()
    def initialize(self, seed: int) -> None:
        """Fills every table from generators of its own: the same weights in any sharding."""
        for shard in self.shards():
            rows, columns = shard.weight.shape
            last_row, last_column = shard.first_row + rows, shard.first_column + columns
            for start, block in _drawn_blocks(shard.table, seed, shard.first_row, last_row):
                low, high = max(start, shard.first_row), min(start + len(block), last_row)
                shard.weight[low - shard.first_row : high - shard.first_row].copy_(
                    block[low - start : high - start, shard.first_column : last_column]
                )


def _drawn_blocks(
    table: TableSpec, seed: int, first_row: int, last_row: int
) -> Iterator[tuple[int, Tensor]]:
    """The initial rows of a table in blocks that cover [first_row, last_row)."""
    if isinstance(table.init, TensorInit):
        yield first_row, table.init.values[first_row:last_row]
        return
    if isinstance(table.init, RowsOf):
        yield from _blocks_of_another(table.init, seed, first_row, last_row)
        return
    first_block = first_row // ROWS_DRAWN_AT_ONCE
    for number in range(first_block, -(-last_row // ROWS_DRAWN_AT_ONCE)):
        start = number * ROWS_DRAWN_AT_ONCE
        block = torch.empty(min(ROWS_DRAWN_AT_ONCE, table.num_rows - start), table.dim)
        name = table.name if number == 0 else f"{table.name}/{number}"
        table.init.fill_(block, table_generator(seed, name))
        yield start, block


def _blocks_of_another(
    chosen: RowsOf, seed: int, first_row: int, last_row: int
) -> Iterator[tuple[int, Tensor]]:
    for start in range(first_row, last_row, ROWS_DRAWN_AT_ONCE):
        rows = chosen.rows[start : min(start + ROWS_DRAWN_AT_ONCE, last_row)]
        block = torch.zeros(len(rows), len(chosen.columns))
        known = rows[rows >= 0]
        low, high = (int(known.min()), int(known.max()) + 1) if len(known) else (0, 0)
        for first, drawn in _drawn_blocks(chosen.source, seed, low, high):
            is_here = (rows >= first) & (rows < first + len(drawn))
            block[is_here] = drawn[rows[is_here] - first][:, chosen.columns]
        yield start, block


def table_generator(seed: int, table: str) -> torch.Generator:
    """A generator that depends on the seed and the table's name alone."""
    digest = hashlib.sha256(f"{seed}/{table}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


def padded_dim(dim: int) -> int:
    """Fbgemm's rows are multiples of four floats; the rest of a row is zero and stays so.

    Row-wise Adagrad takes the mean square of the gradient over the padded row.
    """
    return -(-dim // 4) * 4
