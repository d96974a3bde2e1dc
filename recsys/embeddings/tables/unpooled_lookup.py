"""OneByOne: features whose vectors are wanted for each id by itself, before any pooling."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from recsys.compat.torchrec import KeyedJaggedTensor
from recsys.data.occurrences import Occurrences
from recsys.embeddings.methods.base import EmbeddingMethod, TableSpec
from recsys.embeddings.tables.build import occurrence_key


class OneByOne:
    """Ids → rows by table, and what the tables answer → vectors by embedding.

    `sources`: embedding name → the feature whose ids it takes. An embedding is a feature's own, or
    the one that attention has for it. `tables`: those of one group of the store, in its order.
    """

    def __init__(
        self,
        sources: Mapping[str, str],
        methods: Mapping[str, EmbeddingMethod],
        tables: Sequence[TableSpec],
    ) -> None:
        self.sources, self.methods, self.tables = dict(sources), methods, tuple(tables)

    def rows(self, sparse: KeyedJaggedTensor) -> Occurrences:
        """Logical ids by feature → occurrences of rows by table."""
        bags = [sparse[feature] for feature in self.sources.values()]
        rows: dict[str, list[Tensor]] = {table.name: [] for table in self.tables}
        for name, bag in zip(self.sources, bags, strict=True):
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
        counts = tuple(len(bag.values()) for bag in bags)
        return Occurrences(keyed, lengths, counts, int(lengths.max()) if lengths.numel() else 0)

    def vectors(self, occurrences: Occurrences, found: Tensor) -> Iterator[tuple[str, Tensor]]:
        """The tables' answer (S, Σd) → each embedding's combined vectors (L, D), in order."""
        blocks = torch.split(found, [table.dim for table in self.tables], dim=1)
        read: dict[str, list[int]] = {table.name: [] for table in self.tables}
        for name, count in zip(self.sources, occurrences.counts, strict=True):
            for look in self.methods[name].lookups:
                read[look.table].append(count)
        # the last part: what other tables have more of than this one
        parts = {
            table: iter(torch.split(block, [*counts, len(block) - sum(counts)]))
            for (table, counts), block in zip(read.items(), blocks, strict=True)
        }
        for name in self.sources:
            method = self.methods[name]
            yield name, method.combine([next(parts[look.table]) for look in method.lookups])
