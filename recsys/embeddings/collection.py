"""FeatureEmbeddings: every sparse feature with its own method, in one store of tables."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from recsys.data.batch import Batch, RowLookups
from recsys.data.jagged_ids import JaggedIds
from recsys.embeddings.combine import FeatureCombiner, FeatureVectors
from recsys.embeddings.lookups import GroupLookup, PooledLookup, UnpooledLookup
from recsys.embeddings.methods.base import EmbeddingKey, EmbeddingMethod
from recsys.embeddings.tables.base import TableStore
from recsys.embeddings.tables.regularization import (
    PooledPenalty,
    RowL2,
    StorePenalty,
    UnpooledPenalty,
)
from recsys.errors import RecsysError
from recsys.history_pair import HistoryPair
from recsys.schema import Feature

POOLED = "pooled"  # the group whose rows are summed by the lookup itself


class FeatureEmbeddings(nn.Module):
    """Ids of all sparse features → their vectors.

    The lookup has two halves: `physical_ids` (integers only, run by the loader's threads) and
    `forward`.
    """

    def __init__(
        self,
        features: Sequence[Feature],
        methods: Mapping[EmbeddingKey, EmbeddingMethod],
        groups: Mapping[str, Sequence[EmbeddingKey]],
        mean_pooled: Sequence[str],
        store: TableStore,
        pairs: Sequence[HistoryPair] = (),
    ) -> None:
        """`methods`: see `build_methods`. `groups`: the embeddings of each group of the store."""
        super().__init__()
        self.features = tuple(features)
        self.methods = dict(methods)
        # A ModuleDict would refuse features named like its own attributes ("keys", "type" …).
        self.method_modules = nn.ModuleList(methods.values())
        self.store, self.pairs = store, tuple(pairs)
        self.mean_pooled = frozenset(mean_pooled)
        self.lookups: dict[str, GroupLookup] = {}
        for group, keys in groups.items():
            chosen = {key: self.methods[key] for key in keys}
            tables = store.groups[group].tables
            self.lookups[group] = (
                PooledLookup(chosen, tables, mean_pooled)
                if group == POOLED
                else UnpooledLookup(chosen, tables)
            )
        histories = {name for pair in pairs for name in pair.history}
        own = [key.feature for key in methods if not key.role]
        self.fields = tuple(name for name in own if name not in histories)
        single_valued = [feature.name for feature in features if feature.kind == "categorical"]
        self.combiner = FeatureCombiner(self.lookups, self.fields, mean_pooled, single_valued)
        is_plain = all(method.is_plain_table for method in methods.values())
        # ids are row numbers, and the looked-up rows are the vectors
        self.is_identity = is_plain and not mean_pooled and set(groups) == {POOLED}
        self.penalty: StorePenalty | None = None  # see `add_penalties`

    @property
    def output_dims(self) -> dict[EmbeddingKey, int]:
        """Width of each embedding's vector; those of `fields`, in order, are forward's columns."""
        return {key: method.output_dim for key, method in self.methods.items()}

    def physical_ids(self, ids: JaggedIds) -> dict[str, RowLookups]:
        """Logical ids by feature → the rows that each group looks up, as the group takes them."""
        self._check_histories(ids)
        asked = (
            {POOLED: RowLookups(ids)}
            if self.is_identity
            else {group: lookup.rows(ids) for group, lookup in self.lookups.items()}
        )
        groups = self.store.groups
        return {
            name: replace(each, rows=groups[name].prepare(each.rows))
            for name, each in asked.items()
        }

    def _check_histories(self, ids: JaggedIds) -> None:
        for pair in self.pairs:
            first, *others = [ids[name].lengths() for name in pair.history]
            for name, lengths in zip(pair.history[1:], others, strict=True):
                if not torch.equal(first, lengths):
                    raise RecsysError(
                        f"{pair.history[0]} and {name} differ in length in some row",
                        where="model.pairs",
                        expected="sequences that describe the same behaviors",
                        got=f"{int(first.sum())} and {int(lengths.sum())} behaviors in a batch",
                        fix="prepare them with one max_length, or give each a pair of its own",
                    )

    def to_physical(self, batch: Batch) -> Batch:
        """`physical_ids` of a whole batch: the loader's transform."""
        none = JaggedIds([], batch.sparse.values()[:0], batch.sparse.lengths()[:0], stride=0)
        return replace(batch, sparse=none, lookups=self.physical_ids(batch.sparse))

    def forward(self, asked: Mapping[str, RowLookups]) -> tuple[FeatureVectors, Tensor]:
        """Rows by table group → the vectors of the batch, and the L2 penalty of its rows, ()."""
        raw = {name: group(asked[name].rows) for name, group in self.store.groups.items()}
        if self.is_identity:
            vectors = FeatureVectors(raw[POOLED], {}, {}, 0)
        else:
            vectors = self.combiner(asked, raw)
        penalty = vectors.fields.new_zeros(())
        if self.training and self.penalty is not None:
            penalty = penalty + self.penalty(asked, raw)
        return vectors, penalty

    def add_penalties(
        self, row_counts: Mapping[str, Tensor], l2: RowL2, device: torch.device
    ) -> None:
        """Adds a penalty of looked-up rows; `row_counts` are by table.

        `build_embeddings` has left sequences unpooled for it, see `has_row_l2`.
        """
        kinds = {feature.name: feature.kind for feature in self.features}
        pooled = self.lookups[POOLED].methods if POOLED in self.lookups else {}
        summed = [key.feature for key in pooled if kinds[key.feature] != "categorical"]
        if summed:
            raise TypeError(f"a sum of rows has no penalty of each row: {', '.join(summed)}")
        parts = {
            name: (PooledPenalty if name == POOLED else UnpooledPenalty)(
                group.tables, group.lookups, row_counts, l2
            )
            for name, group in self.store.groups.items()
        }
        self.penalty = StorePenalty(parts).to(device)

    def materialize(self, feature: str, role: str = "") -> Tensor:
        """One embedding as a plain (cardinality, D) table."""
        with torch.no_grad():
            return self.methods[EmbeddingKey(feature, role)].materialize(self.store.weights())
