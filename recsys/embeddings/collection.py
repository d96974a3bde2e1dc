"""FeatureEmbeddings: every sparse feature with its own method, one store, one fused lookup."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from recsys.data.batch import Batch
from recsys.data.occurrences import Occurrences
from recsys.embeddings.base import EmbeddingMethod, RowsOf, TableSpec
from recsys.embeddings.combination import Combination
from recsys.embeddings.config import EmbeddingsConfig
from recsys.embeddings.optimizers import TableOptimizerConfig
from recsys.embeddings.row_penalty import RowPenalty
from recsys.embeddings.stores import build_store, occurrence_key
from recsys.embeddings.table_store import TableStore
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
        one_by_one: Sequence[str],
        store: TableStore,
    ) -> None:
        """`one_by_one`: features whose rows are combined before they are pooled."""
        super().__init__()
        self.features = tuple(features)
        self.methods = dict(methods)
        # A ModuleDict would refuse features named like its own attributes ("keys", "type" …).
        self.method_modules = nn.ModuleList(methods.values())
        self.store = store
        self.combination = Combination(store, self.methods, mean_pooled, one_by_one)
        self.mean_pooled, self.one_by_one = frozenset(mean_pooled), tuple(one_by_one)
        self.pooled = [name for name in methods if name not in one_by_one]
        self.keys = [look.key for name in self.pooled for look in methods[name].lookups]
        self.is_identity = not one_by_one and all(m.is_plain_table for m in methods.values())
        self.penalty: RowPenalty | None = None

    @property
    def output_dims(self) -> dict[str, int]:
        """Width of each feature's vector, in the order of `forward`'s columns."""
        return {name: method.output_dim for name, method in self.methods.items()}

    def physical_ids(
        self, sparse: KeyedJaggedTensor
    ) -> tuple[KeyedJaggedTensor, Occurrences | None]:
        """Logical ids, one key per feature → row numbers, one key per lookup; and occurrences."""
        if self.is_identity:
            return sparse, None
        values = [torch.empty(0, dtype=torch.int32)]
        lengths = [torch.empty(0, dtype=torch.int32)]
        for name in self.pooled:
            bag = sparse[name]
            for rows in self.methods[name].rows(bag.values()):
                values.append(rows.int())
                lengths.append(bag.lengths())
        bags = KeyedJaggedTensor(
            keys=self.keys,
            values=torch.cat(values),
            lengths=torch.cat(lengths),
            stride=sparse.stride(),
        )
        return bags, self._occurrences(sparse) if self.one_by_one else None

    def _occurrences(self, sparse: KeyedJaggedTensor) -> Occurrences:
        bags = [sparse[name] for name in self.one_by_one]
        rows: dict[str, list[Tensor]] = {t.name: [] for t in self.combination.occurrence_tables}
        for name, bag in zip(self.one_by_one, bags, strict=True):
            method = self.methods[name]
            for look, found in zip(method.lookups, method.rows(bag.values()), strict=True):
                rows[look.table].append(found.int())
        values = [torch.cat(parts) for parts in rows.values()]
        most = max(len(found) for found in values)
        place = torch.arange(most)
        keyed = KeyedJaggedTensor(
            keys=[occurrence_key(table) for table in rows],
            values=torch.cat(values),
            lengths=torch.cat([(place < len(found)).int() for found in values]),
            stride=most,
        )
        lengths = torch.stack([bag.lengths() for bag in bags])
        return Occurrences(keyed, lengths, tuple(len(bag.values()) for bag in bags))

    def to_physical(self, batch: Batch) -> Batch:
        """`physical_ids` of a whole batch: the loader's transform."""
        bags, occurrences = self.physical_ids(batch.sparse)
        # `sync` counts each key's ids while they are on the CPU: a GPU would be waited for
        if occurrences is not None:
            occurrences = replace(occurrences, rows=occurrences.rows.sync())
        return replace(batch, sparse=bags.sync(), occurrences=occurrences)

    def forward(
        self, physical: KeyedJaggedTensor, occurrences: Occurrences | None = None
    ) -> tuple[Tensor, Tensor]:
        """Row numbers → vectors (B, ΣD) in feature order, and the L2 penalty of their rows, ()."""
        pooled = self.store(physical) if self.pooled else None  # (B, Σd)
        found = self._look_up(occurrences) if self.one_by_one else None  # (S, Σd)
        vectors = self.combination(physical, pooled, occurrences, found)
        penalty = vectors.new_zeros(())
        if self.penalty is not None and self.training and pooled is not None:
            penalty = self.penalty(physical, pooled)
        return vectors, penalty

    def _look_up(self, occurrences: Occurrences | None) -> Tensor:
        if occurrences is None or self.store.occurrences is None:
            raise TypeError("a batch without the occurrences that the methods ask for")
        return self.store.occurrences(occurrences.rows)

    def materialise(self, feature: str) -> Tensor:
        """One feature as a plain (cardinality, D) table."""
        with torch.no_grad():
            return self.methods[feature].materialise(self.store.weights())


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
    one_by_one = _one_by_one(methods, [f.name for f in schema.of_kind("sequence")])
    lookups = [
        look
        for name, method in methods.items()
        if name not in one_by_one
        for look in method.lookups
    ]
    store = build_store(
        "sharded" if is_sharded else config.store,
        _unique_tables(methods),
        lookups,
        {look.table for name in one_by_one for look in methods[name].lookups},
        optimizer,
        device,
    )
    mean_pooled = [
        f.name for f in schema.of_kind("sequence") if config.pooling_of(f.name) == "mean"
    ]
    embeddings = FeatureEmbeddings(schema.sparse, methods, mean_pooled, one_by_one, store)
    if device.type == "cuda":
        embeddings.method_modules.to(device)
    return embeddings


def _one_by_one(methods: Mapping[str, EmbeddingMethod], sequences: Sequence[str]) -> list[str]:
    """Multi-valued features that combine before they pool, and all that share a table with them."""
    found = {name for name in sequences if not methods[name].commutes_with_sum}
    while True:
        tables = {look.table for name in found for look in methods[name].lookups}
        readers = {n for n, m in methods.items() if any(k.table in tables for k in m.lookups)}
        if readers <= found:
            return [name for name in methods if name in found]
        found |= readers


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
    tables: dict[str, tuple[str, TableSpec]] = {}
    for name, method in methods.items():
        for table in method.tables():
            owner, known = tables.setdefault(table.name, (name, table))
            if _described(known) != _described(table):
                raise RecsysError(
                    f"{owner} and {name} cannot share the table {table.name!r}",
                    expected=f"{_described(known)}, as {owner} needs it",
                    got=f"{_described(table)} for {name}",
                    fix="give features that share a table one size and init, or a table each",
                )
    return [table for _, table in tables.values()]


def _described(table: TableSpec) -> str:
    start = "" if isinstance(table.init, RowsOf) else f", {table.init}"
    return f"{table.num_rows} rows of {table.dim} floats{start}"


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
