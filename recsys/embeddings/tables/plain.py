"""PlainGroup: the tables as ordinary PyTorch parameters.

The reference of the other stores in tests, the store of optimizers over whole tables, and the one
that needs torch alone. On several devices each holds all of it (data parallel).
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recsys.data.jagged_ids import KeyedIds
from recsys.embeddings.optimizers.base import TableOptimizerConfig
from recsys.embeddings.table_spec import Lookup, TableSpec
from recsys.embeddings.tables.base import TableGroup, TableShard, padded_dim


class PlainGroup(TableGroup):
    """One embedding_bag per lookup."""

    def __init__(
        self,
        tables: Sequence[TableSpec],
        lookups: Sequence[Lookup],
        optimizer: TableOptimizerConfig,
        device: torch.device,
    ) -> None:
        super().__init__()
        read = {look.table for look in lookups}
        self.tables = tuple(table for table in tables if table.name in read)
        self.lookups = tuple(lookups)
        self.optimizer_config = optimizer
        self.is_sparse = optimizer.has_sparse_gradients
        dims = {table.name: table.dim for table in tables}
        self.lookup_dims = [dims[look.table] for look in lookups]
        self.index = {table.name: i for i, table in enumerate(self.tables)}
        widths = [padded_dim(t.dim) if optimizer.pads_plain_rows else t.dim for t in self.tables]
        self.parameters_by_table = nn.ParameterList(
            nn.Parameter(torch.zeros(table.num_rows, width, device=device))
            for table, width in zip(self.tables, widths, strict=True)
        )
        self.optimizer = optimizer.plain(list(self.parameters_by_table))

    def forward(self, rows: KeyedIds) -> Tensor:
        if rows.stride() == 0:
            return self._no_rows(rows.values().device)
        keys, vectors = rows.keys(), []
        lengths = rows.lengths().view(len(keys), rows.stride())
        offsets = dict(zip(keys, F.pad(lengths.cumsum(1), (1, 0)), strict=True))  # (B + 1,) each
        for look in self.lookups:
            table = self.index[look.table]
            pooled = F.embedding_bag(
                rows[look.key].values().long(),
                self.parameters_by_table[table],
                offsets[look.key],
                mode="sum",
                sparse=self.is_sparse,
                include_last_offset=True,
            )  # (B, padded d)
            vectors.append(pooled[:, : self.tables[table].dim])
        return torch.cat(vectors, dim=1)

    def _no_rows(self, device: torch.device) -> Tensor:
        """(0, Σd), which still hangs on the tables: other ranks wait for their gradients."""
        none = torch.empty(0, dtype=torch.long, device=device)
        vectors = []
        for look in self.lookups:
            table = self.index[look.table]
            empty = F.embedding(none, self.parameters_by_table[table], sparse=self.is_sparse)
            vectors.append(empty[:, : self.tables[table].dim])
        return torch.cat(vectors, dim=1)

    def shards(self) -> Iterator[TableShard]:
        for table, parameter in zip(self.tables, self.parameters_by_table, strict=True):
            yield TableShard(table, 0, 0, parameter.data[:, : table.dim])

    def state(self) -> dict[str, Tensor]:
        parameters = zip(self.tables, self.parameters_by_table, strict=True)
        return {f"{table.name}/weight": parameter.data for table, parameter in parameters}

    def step(self) -> None:
        self.optimizer.step()

    def optimizers(self) -> list[torch.optim.Optimizer]:
        return [self.optimizer]

    def restore_step_count(self, steps: int) -> None:
        """The optimizer's own state holds it."""

    def scale_learning_rate(self, factor: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self.optimizer_config.learning_rate * factor
