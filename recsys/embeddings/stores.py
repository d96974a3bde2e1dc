"""Where the physical tables live: fused (torchrec + fbgemm) or plain PyTorch, one interface.

A store maps a KeyedJaggedTensor of row numbers, one key per lookup, to the sum-pooled vectors of
all lookups side by side, (B, Σd), in lookup order.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recsys.embeddings.base import Lookup, TableSpec
from recsys.embeddings.optimizers import (
    AdamConfig,
    RowwiseAdagradConfig,
    SgdConfig,
    SparseAdamConfig,
    TableOptimizerConfig,
)
from recsys.errors import RecsysError
from recsys.torchrec_quietly import (
    EmbeddingBagConfig,
    FusedEmbeddingBagCollection,
    KeyedJaggedTensor,
    PoolingType,
    RowWiseAdagrad,
)


class TableStore(nn.Module, ABC):
    """The tables, their lookups and their optimiser."""

    tables: tuple[TableSpec, ...]
    lookups: tuple[Lookup, ...]

    @abstractmethod
    def forward(self, physical: KeyedJaggedTensor) -> Tensor:
        """Row numbers by lookup key → (B, Σd) sums, in lookup order."""

    @abstractmethod
    def weights(self) -> dict[str, Tensor]:
        """Live views of the tables, (num_rows, dim) by table name."""

    @abstractmethod
    def optimizers(self) -> list[torch.optim.Optimizer]:
        """What the training loop must step itself; empty when backward updates the tables."""

    @abstractmethod
    def fused_state(self) -> dict[str, Tensor]:
        """Live views of the optimiser state that backward keeps, for checkpoints."""

    @abstractmethod
    def scale_learning_rate(self, factor: float) -> None:
        """Sets the tables' learning rate to `factor` × the configured one."""

    def initialise(self, seed: int) -> None:
        """Fills every table from its own generator: the same weights in any store or sharding."""
        weights = self.weights()
        for table in self.tables:
            drawn = torch.empty(table.num_rows, table.dim)
            table.init.fill_(drawn, table_generator(seed, table.name))
            weights[table.name].copy_(drawn)


def table_generator(seed: int, table: str) -> torch.Generator:
    """A generator that depends on the seed and the table's name alone."""
    digest = hashlib.sha256(f"{seed}/{table}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


class FusedStore(TableStore):
    """All tables in one torchrec collection: one fused lookup, updates inside backward."""

    columns: Tensor | None

    def __init__(
        self,
        tables: Sequence[TableSpec],
        lookups: Sequence[Lookup],
        optimizer: TableOptimizerConfig,
        device: torch.device,
    ) -> None:
        super().__init__()
        self.tables, self.lookups = tuple(tables), tuple(lookups)
        self.learning_rate = optimizer.learning_rate
        optimizer_type, kwargs = _fused_optimizer(optimizer, device)
        self.collection = FusedEmbeddingBagCollection(
            tables=[
                EmbeddingBagConfig(
                    name=f"t{i}",  # torchrec makes attributes of the names: not any will do
                    num_embeddings=table.num_rows,
                    embedding_dim=padded_dim(table.dim),
                    feature_names=[look.key for look in lookups if look.table == table.name],
                    pooling=PoolingType.SUM,
                )
                for i, table in enumerate(tables)
            ],
            optimizer_type=optimizer_type,
            optimizer_kwargs=kwargs,
            device=device,
        )
        for bag in self.collection.embedding_bags.values():
            bag.weight.data.zero_()
        columns = _wanted_columns(tables, lookups)
        self.output_dim = len(columns)
        answered_dim = sum(padded_dim(t.dim) * _reads(t, lookups) for t in tables)
        is_as_wanted = columns == list(range(answered_dim))
        self.register_buffer(
            "columns",
            None if is_as_wanted else torch.tensor(columns, device=device),
            persistent=False,
        )

    def forward(self, physical: KeyedJaggedTensor) -> Tensor:
        if physical.stride() == 0:  # fbgemm refuses an empty batch; a rank may hold one
            return torch.zeros(0, self.output_dim, device=physical.device())
        vectors = self.collection(physical).values()  # (B, Σ padded d), table by table
        return vectors if self.columns is None else vectors.index_select(1, self.columns)

    def weights(self) -> dict[str, Tensor]:
        bags = self.collection.embedding_bags
        return {t.name: bags[f"t{i}"].weight.data[:, : t.dim] for i, t in enumerate(self.tables)}

    def optimizers(self) -> list[torch.optim.Optimizer]:
        return []

    def fused_state(self) -> dict[str, Tensor]:
        state = self.collection.fused_optimizer().state_dict()["state"]
        return {
            f"{table.name}/{name.rsplit('.', 1)[1]}": value
            for i, table in enumerate(self.tables)
            for name, value in state.get(f"t{i}.weight", {}).items()  # SGD keeps none
        }

    def scale_learning_rate(self, factor: float) -> None:
        optimizer = self.collection.fused_optimizer()
        for group in optimizer.param_groups:
            group["lr"] = self.learning_rate * factor
        optimizer.step()  # hands the rate to fbgemm; the tables are not touched


def padded_dim(dim: int) -> int:
    """Fbgemm's rows are multiples of four floats; the rest of a row is zero and stays so.

    Row-wise Adagrad takes the mean square of the gradient over the padded row.
    """
    return -(-dim // 4) * 4


def _reads(table: TableSpec, lookups: Sequence[Lookup]) -> int:
    return sum(look.table == table.name for look in lookups)


def _wanted_columns(tables: Sequence[TableSpec], lookups: Sequence[Lookup]) -> list[int]:
    """Where the columns of each lookup, in order, stand in torchrec's table-by-table answer."""
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


def _fused_optimizer(
    config: TableOptimizerConfig, device: torch.device
) -> tuple[type[torch.optim.Optimizer], dict[str, object]]:
    if isinstance(config, RowwiseAdagradConfig):
        return RowWiseAdagrad, {"lr": config.learning_rate, "eps": config.eps}
    if isinstance(config, SgdConfig):
        return torch.optim.SGD, {"lr": config.learning_rate}
    if isinstance(config, AdamConfig) and device.type == "cuda":
        return torch.optim.Adam, {"lr": config.learning_rate, "eps": config.eps}
    raise RecsysError(
        f"the fused store has no {config.name} on this device ({device.type})",
        where="train.embedding_optimizer.name",
        expected="rowwise_adagrad or sgd" + (", or adam" if device.type == "cuda" else ""),
        got=config.name,
        fix="choose one of these, or set embeddings.store: plain",
    )


class PlainStore(TableStore):
    """The same in plain PyTorch: the oracle, and the home of optimisers over whole tables."""

    def __init__(
        self,
        tables: Sequence[TableSpec],
        lookups: Sequence[Lookup],
        optimizer: TableOptimizerConfig,
        device: torch.device,
    ) -> None:
        super().__init__()
        self.tables, self.lookups = tuple(tables), tuple(lookups)
        self.optimizer_config = optimizer
        self.is_sparse = isinstance(optimizer, SparseAdamConfig)
        dims = {table.name: table.dim for table in tables}
        self.lookup_dims = [dims[look.table] for look in lookups]
        self.index = {table.name: i for i, table in enumerate(tables)}
        # Row-wise Adagrad's mean runs over the padded row in the fused store, so here too.
        is_padded = isinstance(optimizer, RowwiseAdagradConfig)
        self.parameters_by_table = nn.ParameterList(
            nn.Parameter(
                torch.zeros(t.num_rows, padded_dim(t.dim) if is_padded else t.dim, device=device)
            )
            for t in tables
        )
        self.optimizer = _plain_optimizer(optimizer, list(self.parameters_by_table))

    def forward(self, physical: KeyedJaggedTensor) -> Tensor:
        if physical.stride() == 0:
            return torch.zeros(0, sum(self.lookup_dims), device=physical.device())
        bags = physical.to_dict()
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

    def weights(self) -> dict[str, Tensor]:
        parameters = zip(self.tables, self.parameters_by_table, strict=True)
        return {table.name: parameter.data[:, : table.dim] for table, parameter in parameters}

    def optimizers(self) -> list[torch.optim.Optimizer]:
        return [self.optimizer]

    def fused_state(self) -> dict[str, Tensor]:
        return {}

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


STORES: dict[str, type[FusedStore] | type[PlainStore]] = {"fused": FusedStore, "plain": PlainStore}
