"""Combination: what the tables answered → one vector for each feature and row of the batch."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from recsys.compat.torchrec import KeyedJaggedTensor
from recsys.data.occurrences import Occurrences
from recsys.embeddings.methods.base import EmbeddingMethod
from recsys.embeddings.tables.base import TableStore
from recsys.embeddings.tables.unpooled_lookup import OneByOne


class Combined(NamedTuple):
    """The vectors of a batch.

    vectors: (B, ΣD), the fields side by side. histories: (L, D) by feature, for those that the
    model reads one by one, and their lengths (B,) int64. attention: what attention compares
    instead, (L, A) by feature, where it has embeddings of its own. max_length: no history is
    longer.
    """

    vectors: Tensor
    histories: dict[str, Tensor]
    lengths: dict[str, Tensor]
    attention: dict[str, Tensor]
    max_length: int


class Answers(NamedTuple):
    """What the groups of the store answered, beside what they were asked; (S, Σd) each."""

    pooled: Tensor | None
    occurrences: Tensor | None
    attention: Tensor | None


class Combination(nn.Module):
    """Looked-up vectors → what the model reads.

    A module of its own: torchrec's pipeline traces a forward pass as far as modules without shards.
    The parameters of the methods belong to FeatureEmbeddings.
    """

    def __init__(
        self,
        store: TableStore,
        methods: Mapping[str, EmbeddingMethod],
        fields: Sequence[str],
        mean_pooled: Collection[str],
        single_valued: Collection[str],
        one_by_one: OneByOne,
        attention: OneByOne,
    ) -> None:
        """`fields`: the features that get one vector for each row of the batch, in order."""
        super().__init__()
        dims = {table.name: table.dim for table in store.tables}
        self.widths = [dims[look.table] for look in store.lookups]
        self.methods, self.fields = dict(methods), tuple(fields)
        self.mean_pooled, self.single_valued = frozenset(mean_pooled), frozenset(single_valued)
        self.one_by_one, self.attention = one_by_one, attention
        self.sum_by_row: Callable[[Tensor, Tensor], Tensor] = sum_by_row
        is_one_by_one = bool(one_by_one.sources or attention.sources)
        all_plain = all(method.is_plain_table for method in methods.values())
        self.is_identity = all_plain and not mean_pooled and not is_one_by_one

    def forward(
        self,
        physical: KeyedJaggedTensor,
        occurrences: Occurrences | None,
        attention: Occurrences | None,
        answers: Answers,
    ) -> Combined:
        """The answers of the three groups to these rows."""
        if self.is_identity and answers.pooled is not None:
            return Combined(answers.pooled, {}, {}, {}, 0)
        vectors, histories, lengths = {}, {}, {}
        if answers.pooled is not None:
            vectors = dict(self._from_bags(physical, answers.pooled))
        if occurrences is not None and answers.occurrences is not None:
            found = self.one_by_one.vectors(occurrences, answers.occurrences)
            for number, (name, each) in enumerate(found):
                if name in self.fields:
                    vectors[name] = self._pool(name, each, occurrences.lengths[number])
                else:
                    histories[name], lengths[name] = each, occurrences.lengths[number].long()
        attended = {}
        if attention is not None and answers.attention is not None:
            attended = dict(self.attention.vectors(attention, answers.attention))
            attended = {self.attention.sources[name]: each for name, each in attended.items()}
        max_length = 0 if occurrences is None else occurrences.max_length
        side_by_side = torch.cat([vectors[name] for name in self.fields], dim=1)
        return Combined(side_by_side, histories, lengths, attended, max_length)

    def _from_bags(
        self, physical: KeyedJaggedTensor, pooled: Tensor
    ) -> Iterator[tuple[str, Tensor]]:
        blocks = iter(torch.split(pooled, self.widths, dim=1))
        for name in self.fields:
            if name in self.one_by_one.sources:
                continue
            method = self.methods[name]
            vector = method.combine([next(blocks) for _ in method.lookups])  # (B, D)
            if name in self.mean_pooled:
                vector = vector / _at_least_one(physical[method.lookups[0].key].lengths())
            yield name, vector

    def _pool(self, name: str, vectors: Tensor, lengths: Tensor) -> Tensor:
        """A feature's vectors (L, D), whose bags have `lengths` (B,) → (B, D)."""
        if name in self.single_valued:
            return vectors
        summed = self.sum_by_row(vectors, lengths)
        return summed / _at_least_one(lengths) if name in self.mean_pooled else summed


def sum_by_row(vectors: Tensor, lengths: Tensor) -> Tensor:
    """(L, D) in bags of `lengths` (B,) → (B, D)."""
    # `unsafe` leaves out a check that a batch without rows does not pass
    return torch.segment_reduce(vectors, "sum", lengths=lengths.long(), axis=0, unsafe=True)


def _at_least_one(lengths: Tensor) -> Tensor:
    return lengths.clamp(min=1)[:, None]
