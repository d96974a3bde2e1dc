"""FeatureEmbeddings: every sparse feature with its own method, one store, one fused lookup."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from recsys.data.batch import Batch
from recsys.embeddings.base import EmbeddingMethod, TableSpec
from recsys.embeddings.config import EmbeddingsConfig
from recsys.embeddings.optimizers import TableOptimizerConfig
from recsys.embeddings.row_penalty import RowPenalty
from recsys.embeddings.stores import STORES, ShardedStore, TableStore
from recsys.errors import RecsysError
from recsys.fbgemm_kernels import check_fused
from recsys.schema import Feature, Schema
from recsys.torchrec_quietly import KeyedJaggedTensor


class FeatureEmbeddings(nn.Module):
    """Ids of all sparse features → their vectors side by side.

    The lookup has two halves: `physical_ids` (integers only; the loader's threads run it) and
    `forward`.
    """

    def __init__(
        self,
        features: Sequence[Feature],
        methods: Mapping[str, EmbeddingMethod],
        mean_pooled: Sequence[str],
        store: TableStore,
    ) -> None:
        super().__init__()
        self.features = tuple(features)
        self.methods = dict(methods)
        # A ModuleDict would refuse features named like its own attributes ("keys", "type" …).
        self.method_modules = nn.ModuleList(methods.values())
        self.store = store
        self.mean_pooled = frozenset(mean_pooled)
        self.keys = [look.key for method in methods.values() for look in method.lookups]
        self.is_identity = all(method.is_plain_table for method in methods.values())
        self.combination = _Combination(store, self.methods, self.mean_pooled)
        self.penalty: RowPenalty | None = None

    @property
    def output_dims(self) -> dict[str, int]:
        """Width of each feature's vector, in the order of `forward`'s columns."""
        return {name: method.output_dim for name, method in self.methods.items()}

    def physical_ids(self, sparse: KeyedJaggedTensor) -> KeyedJaggedTensor:
        """Logical ids, one key per feature → row numbers, one key per lookup."""
        if self.is_identity:
            return sparse
        values, lengths = [], []
        for name, method in self.methods.items():
            bag = sparse[name]
            for rows in method.rows(bag.values()):
                values.append(rows.int())
                lengths.append(bag.lengths())
        return KeyedJaggedTensor(
            keys=self.keys, values=torch.cat(values), lengths=torch.cat(lengths)
        )

    def to_physical(self, batch: Batch) -> Batch:
        """`physical_ids` of a whole batch: the loader's transform."""
        # `sync` counts each key's ids while they are on the CPU: a GPU would be waited for
        return replace(batch, sparse=self.physical_ids(batch.sparse).sync())

    def forward(self, physical: KeyedJaggedTensor) -> tuple[Tensor, Tensor]:
        """Row numbers → vectors (B, ΣD) in feature order, and the L2 penalty of their rows, ()."""
        looked_up = self.store(physical)  # (B, Σd)
        penalty = looked_up.new_zeros(())
        if self.penalty is not None and self.training:
            penalty = self.penalty(physical, looked_up)
        return self.combination(physical, looked_up), penalty

    def materialise(self, feature: str) -> Tensor:
        """One feature as a plain (cardinality, D) table."""
        with torch.no_grad():
            return self.methods[feature].materialise(self.store.weights())


class _Combination(nn.Module):
    """Looked-up vectors (B, Σd) → the features' vectors (B, ΣD).

    A module of its own: torchrec's pipeline traces a forward pass as far as modules without shards.
    The parameters of the methods belong to FeatureEmbeddings.
    """

    def __init__(
        self,
        store: TableStore,
        methods: Mapping[str, EmbeddingMethod],
        mean_pooled: Collection[str],
    ) -> None:
        super().__init__()
        dims = {table.name: table.dim for table in store.tables}
        self.widths = [dims[look.table] for look in store.lookups]
        self.methods, self.mean_pooled = methods, mean_pooled
        self.is_identity = not mean_pooled and all(m.is_plain_table for m in methods.values())

    def forward(self, physical: KeyedJaggedTensor, looked_up: Tensor) -> Tensor:
        if self.is_identity:
            return looked_up
        blocks = iter(torch.split(looked_up, self.widths, dim=1))
        vectors = []
        for name, method in self.methods.items():
            vector = method.combine([next(blocks) for _ in method.lookups])  # (B, D)
            if name in self.mean_pooled:
                lengths = physical[method.lookups[0].key].lengths().clamp(min=1)
                vector = vector / lengths[:, None]
            vectors.append(vector)
        return torch.cat(vectors, dim=1)


def build_embeddings(
    config: EmbeddingsConfig,
    schema: Schema,
    optimizer: TableOptimizerConfig,
    device: torch.device,
    *,
    is_sharded: bool = False,
) -> FeatureEmbeddings:
    """The embeddings of a data set's sparse features, not yet initialised."""
    config.check_names(schema)
    if config.store == "fused":
        check_fused(device)
    methods = build_methods(config, schema)
    for feature in schema.sparse:
        method = methods[feature.name]
        if feature.kind == "sequence" and not method.commutes_with_sum:
            raise RecsysError(
                f"{feature.name}: this method cannot embed a multi-valued feature",
                expected="a method whose combination commutes with sum pooling",
                fix="choose another method for this feature",
            )
    lookups = [look for method in methods.values() for look in method.lookups]
    kind = ShardedStore if is_sharded else STORES[config.store]
    store: TableStore = kind(_unique_tables(methods), lookups, optimizer, device)
    mean_pooled = [
        f.name for f in schema.of_kind("sequence") if config.pooling_of(f.name) == "mean"
    ]
    return FeatureEmbeddings(schema.sparse, methods, mean_pooled, store)


def build_methods(config: EmbeddingsConfig, schema: Schema) -> dict[str, EmbeddingMethod]:
    """The method of every sparse feature, in schema order."""
    configs = config.resolved_methods(schema)
    return {
        feature.name: configs[feature.name].build(
            feature.name,
            feature.num_ids,
            config.shared_tables.get(feature.name, feature.name),
        )
        for feature in schema.sparse
    }


def _unique_tables(methods: Mapping[str, EmbeddingMethod]) -> list[TableSpec]:
    tables: dict[str, TableSpec] = {}
    for name, method in methods.items():
        for table in method.tables():
            known = tables.setdefault(table.name, table)
            if (known.num_rows, known.dim) != (table.num_rows, table.dim):
                raise RecsysError(
                    f"{name}: the shared table {table.name!r} would need two shapes",
                    expected=f"{known.num_rows} × {known.dim}",
                    got=f"{table.num_rows} × {table.dim}",
                    fix="give the features that share a table the same method",
                )
    return list(tables.values())


def row_counts(
    methods: Mapping[str, EmbeddingMethod], id_counts: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Occurrences of each physical row in the train rows, by table; `id_counts` are (V,)."""
    counts: dict[str, Tensor] = {}
    for name, method in methods.items():
        tables = {table.name: table for table in method.tables()}
        ids = torch.arange(method.cardinality)
        for look, rows in zip(method.lookups, method.rows(ids), strict=True):
            total = counts.setdefault(look.table, torch.zeros(tables[look.table].num_rows))
            total.index_add_(0, rows.long(), id_counts[name].float())
    return counts
