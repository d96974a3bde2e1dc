"""FeatureEmbeddings: every sparse feature with its own method, one store, one fused lookup."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from recsys.compat.fbgemm import check_fused
from recsys.compat.torchrec import KeyedJaggedTensor
from recsys.data.batch import Batch
from recsys.data.occurrences import Occurrences
from recsys.embeddings.combine import Answers, Combination, Combined
from recsys.embeddings.config import EmbeddingsConfig
from recsys.embeddings.feature_methods import (
    ATTENTION,
    build_methods,
    history_features,
    source_of,
    unique_tables,
)
from recsys.embeddings.methods.base import EmbeddingMethod
from recsys.embeddings.tables.base import TableGroup, TableStore
from recsys.embeddings.tables.build import Reads, build_store
from recsys.embeddings.tables.optimizers import TableOptimizerConfig
from recsys.embeddings.tables.regularization import Charge, OccurrencePenalty, RowPenalty
from recsys.embeddings.tables.unpooled_lookup import OneByOne
from recsys.errors import RecsysError
from recsys.history_pair import HistoryPair
from recsys.schema import Feature, Schema


class PhysicalIds(NamedTuple):
    """Row numbers: bags by lookup, and occurrences by table for the groups that need them."""

    bags: KeyedJaggedTensor
    occurrences: Occurrences | None
    attention: Occurrences | None


class FeatureEmbeddings(nn.Module):
    """Ids of all sparse features → their vectors.

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
        pairs: Sequence[HistoryPair] = (),
    ) -> None:
        """`methods`: see `build_methods`. `one_by_one`: features that are not pooled by lookups."""
        super().__init__()
        self.features = tuple(features)
        self.methods = dict(methods)
        # A ModuleDict would refuse features named like its own attributes ("keys", "type" …).
        self.method_modules = nn.ModuleList(methods.values())
        self.store, self.pairs = store, tuple(pairs)
        self.mean_pooled = frozenset(mean_pooled)
        self.one_by_one = _one_by_one(
            {name: name for name in one_by_one}, methods, store.occurrences
        )
        for_attention = {name: source_of(name) for name in methods if name.endswith(ATTENTION)}
        self.attention = _one_by_one(for_attention, methods, store.attention)
        names = [name for name in methods if name not in for_attention]
        histories = history_features(pairs)
        self.fields = tuple(name for name in names if name not in histories)
        self.combination = Combination(
            store,
            self.methods,
            self.fields,
            mean_pooled,
            [feature.name for feature in features if feature.kind == "categorical"],
            self.one_by_one,
            self.attention,
        )
        self.pooled = [name for name in names if name not in one_by_one]
        self.keys = [look.key for name in self.pooled for look in methods[name].lookups]
        self.is_identity = self.combination.is_identity
        self.penalty: RowPenalty | None = None
        self.occurrence_penalty: OccurrencePenalty | None = None
        self.attention_penalty: OccurrencePenalty | None = None

    @property
    def output_dims(self) -> dict[str, int]:
        """Width of each embedding's vector; those of `fields`, in order, are forward's columns."""
        return {name: method.output_dim for name, method in self.methods.items()}

    def physical_ids(self, sparse: KeyedJaggedTensor) -> PhysicalIds:
        """Logical ids, one key per feature → row numbers, one key per lookup; and occurrences."""
        if self.is_identity:
            return PhysicalIds(sparse, None, None)
        self._check_histories(sparse)
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
        one_by_one, attention = (
            each.rows(sparse) if each.sources else None
            for each in (self.one_by_one, self.attention)
        )
        return PhysicalIds(bags, one_by_one, attention)

    def _check_histories(self, sparse: KeyedJaggedTensor) -> None:
        for pair in self.pairs:
            first, *others = [sparse[name].lengths() for name in pair.history]
            for name, lengths in zip(pair.history[1:], others, strict=True):
                if not torch.equal(first, lengths):
                    raise RecsysError(
                        f"{pair.history[0]} and {name} are not of one length in every row",
                        where="model.pairs",
                        expected="sequences that describe the same behaviours",
                        got=f"{int(first.sum())} and {int(lengths.sum())} behaviours in a batch",
                        fix="prepare them with one max_length, or give them a pair each",
                    )

    def to_physical(self, batch: Batch) -> Batch:
        """`physical_ids` of a whole batch: the loader's transform."""
        bags, occurrences, attention = self.physical_ids(batch.sparse)
        # `sync` counts each key's ids while they are on the CPU: a GPU would be waited for
        return replace(
            batch,
            sparse=bags.sync(),
            occurrences=None if occurrences is None else occurrences.with_counted_keys(),
            attention=None if attention is None else attention.with_counted_keys(),
        )

    def forward(
        self,
        physical: KeyedJaggedTensor,
        occurrences: Occurrences | None = None,
        attention: Occurrences | None = None,
    ) -> tuple[Combined, Tensor]:
        """Row numbers → the vectors of the batch, and the L2 penalty of their rows, ()."""
        store = self.store
        answers = Answers(
            store(physical) if self.pooled else None,  # (B, Σd)
            _look_up(store.occurrences, occurrences) if self.one_by_one.sources else None,
            _look_up(store.attention, attention) if self.attention.sources else None,
        )
        combined = self.combination(physical, occurrences, attention, answers)
        total = combined.vectors.new_zeros(())
        if self.training:
            if self.penalty is not None:
                total = total + self.penalty(physical, answers.pooled)
            if self.occurrence_penalty is not None:
                total = total + self.occurrence_penalty(occurrences, answers.occurrences)
            if self.attention_penalty is not None:
                total = total + self.attention_penalty(attention, answers.attention)
        return combined, total

    def add_penalties(
        self, row_counts: Mapping[str, Tensor], charge: Charge, device: torch.device
    ) -> None:
        """Adds a penalty of the rows that are looked up; `row_counts` are by table.

        `build_embeddings` looks up the rows of sequences one by one if they will be charged.
        """
        store, kinds = self.store, {f.name: f.kind for f in self.features}
        summed = [name for name in self.pooled if kinds[name] != "categorical"]
        if summed:
            raise TypeError(f"a sum of rows cannot be charged row by row: {', '.join(summed)}")

        def one_by_one(group: TableGroup | None) -> OccurrencePenalty | None:
            if group is None:
                return None
            return OccurrencePenalty(group.tables, row_counts, charge).to(device)

        if (bags := store.bags) is not None:
            penalty = RowPenalty(bags.tables, bags.lookups, row_counts, charge)
            self.penalty = penalty.to(device)
        self.occurrence_penalty = one_by_one(store.occurrences)
        self.attention_penalty = one_by_one(store.attention)

    def materialize(self, embedding: str) -> Tensor:
        """One embedding as a plain (cardinality, D) table."""
        with torch.no_grad():
            return self.methods[embedding].materialize(self.store.weights())


def _one_by_one(
    sources: Mapping[str, str], methods: Mapping[str, EmbeddingMethod], group: TableGroup | None
) -> OneByOne:
    return OneByOne(sources, methods, () if group is None else group.tables)


def _look_up(group: TableGroup | None, occurrences: Occurrences | None) -> Tensor:
    if occurrences is None or group is None:
        raise TypeError("a batch without the occurrences that the methods ask for")
    found: Tensor = group(occurrences.rows)  # (S, Σd)
    return found


def build_embeddings(
    config: EmbeddingsConfig,
    schema: Schema,
    optimizer: TableOptimizerConfig,
    device: torch.device,
    *,
    pairs: Sequence[HistoryPair] = (),
    is_sharded: bool = False,
) -> FeatureEmbeddings:
    """The embeddings of a data set's sparse features, not yet initialized."""
    config.check_names(schema)
    if config.store == "fused":
        check_fused(device)
    methods = build_methods(config, schema, pairs)
    sequences = [f.name for f in schema.of_kind("sequence")]
    histories = history_features(pairs)
    is_charged = optimizer.charges_lookups(config.store)
    apart = sequences if is_charged else histories
    one_by_one = _not_pooled(methods, sequences, apart)
    store = build_store(
        "sharded" if is_sharded else config.store,
        unique_tables(methods),
        _reads(config, methods, one_by_one),
        optimizer,
        device,
    )
    mean_pooled = [
        name for name in sequences if name not in histories and config.pooling_of(name) == "mean"
    ]
    embeddings = FeatureEmbeddings(schema.sparse, methods, mean_pooled, one_by_one, store, pairs)
    if device.type == "cuda":
        embeddings.method_modules.to(device)
    return embeddings


def _reads(
    config: EmbeddingsConfig, methods: Mapping[str, EmbeddingMethod], one_by_one: Sequence[str]
) -> Reads:
    for_attention = [name for name in methods if name.endswith(ATTENTION)]
    not_pooled, search = {*one_by_one, *for_attention}, config.roles.get("search")
    return Reads(
        bags=[k for name, m in methods.items() if name not in not_pooled for k in m.lookups],
        occurrences={look.table for name in one_by_one for look in methods[name].lookups},
        attention={look.table for name in for_attention for look in methods[name].lookups},
        attention_learning_rate=search.learning_rate if search is not None else None,
    )


def _not_pooled(
    methods: Mapping[str, EmbeddingMethod], sequences: Sequence[str], apart: Sequence[str]
) -> list[str]:
    """`apart`, other sequences that combine before they pool, and all that share a table.

    `apart`: histories, or all sequences where each row that is looked up is charged.
    """
    found = {name for name in sequences if not methods[name].commutes_with_sum}
    found |= set(apart)
    while True:
        tables = {look.table for name in found for look in methods[name].lookups}
        readers = {n for n, m in methods.items() if any(k.table in tables for k in m.lookups)}
        if readers <= found:
            return [name for name in methods if name in found]
        found |= readers
