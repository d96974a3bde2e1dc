"""Combination: what the tables answered → one vector for each feature and row of the batch."""

from collections.abc import Collection, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from recsys.data.occurrences import Occurrences
from recsys.embeddings.base import EmbeddingMethod
from recsys.embeddings.table_store import TableStore
from recsys.torchrec_quietly import KeyedJaggedTensor


class Combination(nn.Module):
    """Looked-up vectors → the features' vectors side by side, (B, ΣD), in feature order.

    A module of its own: torchrec's pipeline traces a forward pass as far as modules without shards.
    The parameters of the methods belong to FeatureEmbeddings.
    """

    def __init__(
        self,
        store: TableStore,
        methods: Mapping[str, EmbeddingMethod],
        mean_pooled: Collection[str],
        one_by_one: Sequence[str],
    ) -> None:
        super().__init__()
        dims = {table.name: table.dim for table in store.tables}
        self.widths = [dims[look.table] for look in store.lookups]
        self.occurrence_tables = () if store.occurrences is None else store.occurrences.tables
        self.methods, self.mean_pooled = dict(methods), frozenset(mean_pooled)
        self.one_by_one = tuple(one_by_one)
        all_plain = all(method.is_plain_table for method in methods.values())
        self.is_identity = all_plain and not mean_pooled and not one_by_one

    def forward(
        self,
        physical: KeyedJaggedTensor,
        pooled: Tensor | None,
        occurrences: Occurrences | None,
        found: Tensor | None,
    ) -> Tensor:
        """`pooled`: (B, Σd) of the lookups; `found`: (S, Σd) of the occurrences' tables."""
        if self.is_identity and pooled is not None:
            return pooled
        vectors = dict(self._from_bags(physical, pooled)) if pooled is not None else {}
        if occurrences is not None and found is not None:
            vectors |= dict(self._from_occurrences(occurrences, found))
        return torch.cat([vectors[name] for name in self.methods], dim=1)

    def _from_bags(
        self, physical: KeyedJaggedTensor, pooled: Tensor
    ) -> Iterator[tuple[str, Tensor]]:
        blocks = iter(torch.split(pooled, self.widths, dim=1))
        for name, method in self.methods.items():
            if name in self.one_by_one:
                continue
            vector = method.combine([next(blocks) for _ in method.lookups])  # (B, D)
            if name in self.mean_pooled:
                vector = vector / _at_least_one(physical[method.lookups[0].key].lengths())
            yield name, vector

    def _from_occurrences(
        self, occurrences: Occurrences, found: Tensor
    ) -> Iterator[tuple[str, Tensor]]:
        for number, (name, vectors) in enumerate(self.by_occurrence(occurrences, found)):
            lengths = occurrences.lengths[number]
            # `unsafe` leaves out a check that a batch without rows does not pass
            summed = torch.segment_reduce(  # (B, D)
                vectors, "sum", lengths=lengths.long(), axis=0, unsafe=True
            )
            if name in self.mean_pooled:
                summed = summed / _at_least_one(lengths)
            yield name, summed

    def by_occurrence(
        self, occurrences: Occurrences, found: Tensor
    ) -> Iterator[tuple[str, Tensor]]:
        """Each feature's combined vectors (L, D), one for each of its ids, before any pooling."""
        blocks = torch.split(found, [table.dim for table in self.occurrence_tables], dim=1)
        columns = {t.name: block for t, block in zip(self.occurrence_tables, blocks, strict=True)}
        start = dict.fromkeys(columns, 0)
        for name, count in zip(self.one_by_one, occurrences.counts, strict=True):
            vectors = []
            for look in self.methods[name].lookups:
                first = start[look.table]
                vectors.append(columns[look.table][first : first + count])
                start[look.table] = first + count
            yield name, self.methods[name].combine(vectors)


def _at_least_one(lengths: Tensor) -> Tensor:
    return lengths.clamp(min=1)[:, None]
