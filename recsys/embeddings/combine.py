"""FeatureCombiner: raw lookups → one vector for each feature and row of the batch."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from recsys.data.batch import RowLookups
from recsys.embeddings.methods.base import EmbeddingKey

if TYPE_CHECKING:  # keeps the import chain short
    from recsys.embeddings.lookups import GroupLookup, KeyVectors


class FeatureVectors(NamedTuple):
    """The vectors of a batch.

    fields: (B, ΣD), the features with one vector per row, side by side. unpooled: (L, D), one for
    each id, of the embeddings that a model reads id by id. lengths: (B,) int64, how many of these
    each row has, by feature. max_length: no list of ids is longer.
    """

    fields: Tensor
    unpooled: dict[EmbeddingKey, Tensor]
    lengths: dict[str, Tensor]
    max_length: int


class FeatureCombiner(nn.Module):
    """Looked-up rows → what the model reads.

    A module of its own because torchrec's pipeline traces a forward pass down to modules without
    shards: this one is not traced. The parameters of the methods belong to FeatureEmbeddings.
    """

    def __init__(
        self,
        lookups: Mapping[str, "GroupLookup"],
        fields: Sequence[str],
        mean_pooled: Collection[str],
        single_valued: Collection[str],
    ) -> None:
        """`lookups`: by table group. `fields`: the features that get one vector per row."""
        super().__init__()
        self.lookups, self.fields = dict(lookups), tuple(fields)
        self.mean_pooled, self.single_valued = frozenset(mean_pooled), frozenset(single_valued)
        self.sum_by_row: Callable[[Tensor, Tensor], Tensor] = sum_by_row

    def forward(self, asked: Mapping[str, RowLookups], raw: Mapping[str, Tensor]) -> FeatureVectors:
        """Rows that were looked up, and (B, Σd) or (S, Σd) that came back, by table group."""
        vectors: dict[str, Tensor] = {}
        unpooled: dict[EmbeddingKey, Tensor] = {}
        lengths: dict[str, Tensor] = {}
        for group, lookup in self.lookups.items():
            for found in lookup.vectors(asked[group], raw[group]):
                key = found.key
                if not key.role and key.feature in self.fields:
                    vectors[key.feature] = self._pool(found)
                    continue
                unpooled[key] = found.vectors
                if not key.role and found.lengths is not None:
                    lengths[key.feature] = found.lengths.long()
        side_by_side = torch.cat([vectors[name] for name in self.fields], dim=1)
        longest = max(rows.max_length for rows in asked.values())
        return FeatureVectors(side_by_side, unpooled, lengths, longest)

    def _pool(self, found: "KeyVectors") -> Tensor:
        """A feature's vectors, one for each id or pooled → (B, D)."""
        name, lengths = found.key.feature, found.lengths
        if lengths is None or name in self.single_valued:
            return found.vectors
        summed = self.sum_by_row(found.vectors, lengths)
        return summed / lengths.clamp(min=1)[:, None] if name in self.mean_pooled else summed


def sum_by_row(vectors: Tensor, lengths: Tensor) -> Tensor:
    """(L, D) in lists of `lengths` (B,) → (B, D)."""
    # `unsafe` leaves out a check that a batch without rows does not pass
    return torch.segment_reduce(vectors, "sum", lengths=lengths.long(), axis=0, unsafe=True)
