"""How the embeddings of one table group are looked up: ids → row numbers, and rows → vectors."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from recsys.data.batch import RowLookups
from recsys.data.jagged_ids import JaggedIds
from recsys.embeddings.methods.base import EmbeddingKey, EmbeddingMethod
from recsys.embeddings.table_spec import Lookup, TableSpec

Methods = Mapping[EmbeddingKey, EmbeddingMethod]


class KeyVectors(NamedTuple):
    """An embedding's vectors: (B, D) with lengths None, or (L, D) in lists of `lengths` (B,)."""

    key: EmbeddingKey
    vectors: Tensor
    lengths: Tensor | None


class GroupLookup(ABC):
    """Some embeddings whose tables make up one group."""

    def __init__(self, methods: Methods) -> None:
        self.methods = dict(methods)

    @abstractmethod
    def rows(self, ids: JaggedIds) -> RowLookups:
        """Logical ids by feature → row numbers by lookup key; integers only."""

    @abstractmethod
    def vectors(self, asked: RowLookups, raw: Tensor) -> Iterator[KeyVectors]:
        """What the group returned for these rows → each embedding's vectors, in order."""

    @abstractmethod
    def mean_rows(self, mean_lengths: Mapping[str, float]) -> dict[str, float]:
        """Rows that a sample looks up, by lookup key; `mean_lengths` of sequences by feature."""


class PooledLookup(GroupLookup):
    """Rows are summed by the lookup itself: (B, Σd) comes back."""

    def __init__(
        self, methods: Methods, tables: Sequence[TableSpec], mean_pooled: Collection[str]
    ) -> None:
        super().__init__(methods)
        dims = {table.name: table.dim for table in tables}
        lookups = [look for method in methods.values() for look in method.lookups]
        self.lookup_keys = [look.key for look in lookups]
        self.widths = [dims[look.table] for look in lookups]
        self.mean_pooled = frozenset(mean_pooled)

    def rows(self, ids: JaggedIds) -> RowLookups:
        values, lengths, counts = [], [], []
        for key, method in self.methods.items():
            own = ids[key.feature]
            for rows in method.rows(own.values()):
                values.append(rows.int())
                lengths.append(own.lengths())
                counts.append(len(rows))
        rows_by_key = JaggedIds(
            self.lookup_keys,
            torch.cat(values),
            torch.cat(lengths),
            stride=ids.stride(),
            length_per_key=counts,
        )
        return RowLookups(rows_by_key)

    def vectors(self, asked: RowLookups, raw: Tensor) -> Iterator[KeyVectors]:
        blocks = iter(torch.split(raw, self.widths, dim=1))
        for key, method in self.methods.items():
            vectors = method.combine([next(blocks) for _ in method.lookups])  # (B, D)
            if key.feature in self.mean_pooled:
                lengths = asked.rows[method.lookups[0].key].lengths()
                vectors = vectors / lengths.clamp(min=1)[:, None]
            yield KeyVectors(key, vectors, None)

    def mean_rows(self, mean_lengths: Mapping[str, float]) -> dict[str, float]:
        return {
            look.key: mean_lengths[key.feature]
            for key, method in self.methods.items()
            if key.feature in mean_lengths
            for look in method.lookups
        }


class UnpooledLookup(GroupLookup):
    """One row comes back for each id, (S, Σd) with S ids of the table that is read most.

    Each table is one lookup; every list of row numbers has one row, or none at the end of a table
    that is read less. `tables`: those of the group, in its order.
    """

    def __init__(self, methods: Methods, tables: Sequence[TableSpec]) -> None:
        super().__init__(methods)
        self.dims = {table.name: table.dim for table in tables}

    def rows(self, ids: JaggedIds) -> RowLookups:
        own = [ids[key.feature] for key in self.methods]
        parts: dict[str, list[Tensor]] = {table: [] for table in self.dims}
        for method, each in zip(self.methods.values(), own, strict=True):
            for look, rows in zip(method.lookups, method.rows(each.values()), strict=True):
                parts[look.table].append(rows.int())
        values = [torch.cat(rows) for rows in parts.values()]
        most = max(len(rows) for rows in values)
        place = torch.arange(most)
        rows_by_table = JaggedIds(
            [unpooled_key(table) for table in parts],
            torch.cat(values),
            torch.cat([(place < len(rows)).int() for rows in values]),
            stride=most,
            length_per_key=[len(rows) for rows in values],
        )
        lengths = torch.stack([each.lengths() for each in own])  # (features, B)
        counts = tuple(len(each.values()) for each in own)
        longest = int(lengths.max()) if lengths.numel() else 0
        return RowLookups(rows_by_table, lengths, counts, longest)

    def vectors(self, asked: RowLookups, raw: Tensor) -> Iterator[KeyVectors]:
        blocks = torch.split(raw, list(self.dims.values()), dim=1)
        read: dict[str, list[int]] = {table: [] for table in self.dims}
        for method, count in zip(self.methods.values(), asked.counts, strict=True):
            for look in method.lookups:
                read[look.table].append(count)
        # the last part: rows that other tables have more of than this one
        parts = {
            table: iter(torch.split(block, [*counts, len(block) - sum(counts)]))
            for (table, counts), block in zip(read.items(), blocks, strict=True)
        }
        lengths = asked.lengths
        assert lengths is not None  # `rows` gives them
        for number, (key, method) in enumerate(self.methods.items()):
            vectors = method.combine([next(parts[look.table]) for look in method.lookups])
            yield KeyVectors(key, vectors, lengths[number])

    def mean_rows(self, mean_lengths: Mapping[str, float]) -> dict[str, float]:
        totals: dict[str, float] = {}
        for key, method in self.methods.items():
            for look in method.lookups:
                name = unpooled_key(look.table)
                totals[name] = totals.get(name, 0.0) + mean_lengths.get(key.feature, 1.0)
        return totals


def unpooled_key(table: str) -> str:
    """The key under which a table's rows are looked up one by one."""
    return f"{table}/rows"


def unpooled_lookups(tables: Sequence[TableSpec], methods: Methods) -> list[Lookup]:
    """One lookup for each table that these embeddings read."""
    read = {look.table for method in methods.values() for look in method.lookups}
    return [Lookup(unpooled_key(t.name), t.name) for t in tables if t.name in read]
