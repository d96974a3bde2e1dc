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
        with torch.no_grad():
            for table in self.tables:
                table.init.fill_(weights[table.name], table_generator(seed, table.name))


def table_generator(seed: int, table: str) -> torch.Generator:
    """A generator that depends on the seed and the table's name alone."""
    digest = hashlib.sha256(f"{seed}/{table}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


class FusedStore(TableStore):
    """All tables in one torchrec collection: one fused lookup, updates inside backward."""

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
                    embedding_dim=table.dim,
                    feature_names=[look.key for look in lookups if look.table == table.name],
                    pooling=PoolingType.SUM,
                )
                for i, table in enumerate(tables)
            ],
            optimizer_type=optimizer_type,
            optimizer_kwargs=kwargs,
            device=device,
        )
        # torchrec answers table by table; we promise lookup order.
        answered = [look.key for t in tables for look in lookups if look.table == t.name]
        wanted = [look.key for look in lookups]
        self.order = None if answered == wanted else [answered.index(key) for key in wanted]
        dims = {t.name: t.dim for t in tables}
        table_of = {look.key: look.table for look in lookups}
        self.empty_answer = torch.zeros(0, sum(dims[k.table] for k in lookups), device=device)
        self.answered_dims = [dims[table_of[key]] for key in answered]

    def forward(self, physical: KeyedJaggedTensor) -> Tensor:
        if physical.stride() == 0:  # fbgemm refuses an empty batch; a rank may hold one
            return self.empty_answer
        vectors = self.collection(physical).values()  # (B, Σd)
        if self.order is None:
            return vectors
        blocks = vectors.split(self.answered_dims, dim=1)
        return torch.cat([blocks[i] for i in self.order], dim=1)

    def weights(self) -> dict[str, Tensor]:
        bags = self.collection.embedding_bags
        return {table.name: bags[f"t{i}"].weight.data for i, table in enumerate(self.tables)}

    def optimizers(self) -> list[torch.optim.Optimizer]:
        return []

    def fused_state(self) -> dict[str, Tensor]:
        state = self.collection.fused_optimizer().state_dict()["state"]
        return {
            f"{table.name}/{name.rsplit('.', 1)[1]}": value
            for i, table in enumerate(self.tables)
            for name, value in state[f"t{i}.weight"].items()
        }

    def scale_learning_rate(self, factor: float) -> None:
        optimizer = self.collection.fused_optimizer()
        for group in optimizer.param_groups:
            group["lr"] = self.learning_rate * factor
        optimizer.step()  # hands the rate to fbgemm; the tables are not touched


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
        self.index = {table.name: i for i, table in enumerate(tables)}
        self.parameters_by_table = nn.ParameterList(
            nn.Parameter(torch.empty(t.num_rows, t.dim, device=device)) for t in tables
        )
        self.optimizer = _plain_optimizer(optimizer, list(self.parameters_by_table))

    def forward(self, physical: KeyedJaggedTensor) -> Tensor:
        bags = physical.to_dict()
        vectors = []
        for look in self.lookups:
            bag = bags[look.key]
            vectors.append(
                F.embedding_bag(
                    bag.values().long(),
                    self.parameters_by_table[self.index[look.table]],
                    bag.offsets().long(),
                    mode="sum",
                    sparse=self.is_sparse,
                    include_last_offset=True,
                )
            )  # (B, d)
        return torch.cat(vectors, dim=1)

    def weights(self) -> dict[str, Tensor]:
        return {t.name: self.parameters_by_table[i].data for i, t in enumerate(self.tables)}

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
