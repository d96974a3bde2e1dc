"""PlainGroup: the tables as ordinary PyTorch parameters.

The oracle of the other stores, the home of optimisers over whole tables, and what serves where no
fbgemm can be had. On several devices each holds all of it (data parallel).
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recsys.compat.torchrec import KeyedJaggedTensor, RowWiseAdagrad
from recsys.embeddings.methods.base import Lookup, TableSpec
from recsys.embeddings.tables.base import TableGroup, TableShard, padded_dim
from recsys.embeddings.tables.optimizers import (
    AdamConfig,
    RowwiseAdagradConfig,
    SparseAdamConfig,
    TableOptimizerConfig,
)


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
        self.is_sparse = isinstance(optimizer, SparseAdamConfig)
        dims = {table.name: table.dim for table in tables}
        self.lookup_dims = [dims[look.table] for look in lookups]
        self.index = {table.name: i for i, table in enumerate(self.tables)}
        # Row-wise Adagrad's mean runs over the padded row in the fused store, so here too.
        is_padded = isinstance(optimizer, RowwiseAdagradConfig)
        self.parameters_by_table = nn.ParameterList(
            nn.Parameter(
                torch.zeros(t.num_rows, padded_dim(t.dim) if is_padded else t.dim, device=device)
            )
            for t in self.tables
        )
        self.optimizer = _plain_optimizer(optimizer, list(self.parameters_by_table))

    def forward(self, rows: KeyedJaggedTensor) -> Tensor:
        if rows.stride() == 0:
            return self._no_rows(rows.device())
        bags = rows.to_dict()
        vectors = []
        for look in self.lookups:
            table = self.index[look.table]
            pooled = F.embedding_bag(
                bags[look.key].values().long(),
                self.parameters_by_table[table],
                bags[look.key].offsets().long(),
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
        """The optimiser's own state holds it."""

    def scale_learning_rate(self, factor: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self.optimizer_config.learning_rate * factor


def _plain_optimizer(
    config: TableOptimizerConfig, parameters: list[nn.Parameter]
) -> torch.optim.Optimizer:
    if isinstance(config, AdamConfig):
        return torch.optim.Adam(
            parameters,
            lr=config.learning_rate,
            betas=config.betas,
            eps=config.eps,
            weight_decay=config.l2,  # torch's coupled decay is the gradient of λ/2·‖tables‖²
        )
    if isinstance(config, SparseAdamConfig):
        return torch.optim.SparseAdam(
            parameters, lr=config.learning_rate, betas=config.betas, eps=config.eps
        )
    if isinstance(config, RowwiseAdagradConfig):
        return RowWiseAdagrad(parameters, lr=config.learning_rate, eps=config.eps)
    return torch.optim.SGD(parameters, lr=config.learning_rate)
