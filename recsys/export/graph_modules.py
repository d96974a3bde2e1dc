"""The modules that are traced: a model's dense part from vectors, and the whole from ids."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from recsys.embeddings.collection import FeatureEmbeddings
from recsys.embeddings.combine import FeatureVectors, sum_by_row
from recsys.embeddings.methods.base import EmbeddingKey
from recsys.export.signatures import Histories
from recsys.models.network import Network, history_of


class DenseGraph(nn.Module):
    """Vectors of each embedding, lengths (B,) of histories, numericals (B, N) if any → scores.

    Vectors are (B, D) for a field, (L, D) for a history; those of other roles come last.
    """

    def __init__(
        self, network: Network, embeddings: FeatureEmbeddings, histories: Histories
    ) -> None:
        super().__init__()
        self.network, self.histories = network, histories
        self.fields, self.keys = embeddings.fields, tuple(embeddings.methods)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        leaders = self.histories.with_lengths
        vectors = dict(zip(self.keys, inputs, strict=False))
        rest = inputs[len(vectors) :]
        lengths = dict(zip(leaders, rest, strict=False))
        fields = torch.cat([vectors[EmbeddingKey(name)] for name in self.fields], dim=1)  # (B, ΣD)
        has_dense = len(rest) > len(lengths)
        dense = rest[-1] if has_dense else fields.new_zeros(fields.shape[0], 0)
        return self._score(fields, dense, vectors, lengths)

    def _score(
        self,
        fields: Tensor,
        dense: Tensor,
        vectors: Mapping[EmbeddingKey, Tensor],
        lengths: Mapping[str, Tensor],
    ) -> tuple[Tensor, Tensor]:
        of_each = {name: lengths[leader] for name, leader in self.histories.leaders.items()}
        unpooled = {k: v for k, v in vectors.items() if k.role or k.feature in of_each}
        histories = [
            history_of(
                pair, FeatureVectors(fields, unpooled, of_each, longest), self.network.columns
            )
            for pair, longest in zip(self.histories.pairs, self.histories.max_lengths, strict=True)
        ]
        logits = self.network.score(fields, dense, *histories)
        return logits, torch.sigmoid(logits)


class WholeGraph(nn.Module):
    """Ids (B,) of each categorical feature, values (L,) and lengths (B,) of each sequence → scores.

    Tables stay as they were trained, so a compressed one stays compressed.
    """

    def __init__(
        self, network: Network, embeddings: FeatureEmbeddings, histories: Histories
    ) -> None:
        super().__init__()
        weights = embeddings.store.weights()
        self.tables = nn.ParameterList(
            nn.Parameter(w.cpu().contiguous(), False) for w in weights.values()
        )
        self.table_index = {name: i for i, name in enumerate(weights)}
        self.features, self.keys = embeddings.features, tuple(embeddings.methods)
        self.methods = copy.deepcopy(embeddings.method_modules).cpu()
        self.mean_pooled, self.histories = embeddings.mean_pooled, histories
        self.dense_graph = DenseGraph(network, embeddings, histories)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        queue = iter(inputs)
        ids, lengths = {}, {}
        for feature in self.features:
            ids[feature.name] = next(queue)
            if feature.kind == "sequence":
                lengths[feature.name] = next(queue)
        vectors = []
        for index, key in enumerate(self.keys):
            source = key.feature
            looked_up = self._look_up(index, ids[source])
            if source in lengths and source not in self.histories.leaders:
                looked_up = _pool(looked_up, lengths[source], source in self.mean_pooled)
            vectors.append(looked_up)
        counted = [lengths[name] for name in self.histories.with_lengths]
        scores: tuple[Tensor, Tensor] = self.dense_graph(*vectors, *counted, *queue)
        return scores

    def _look_up(self, index: int, ids: Tensor) -> Tensor:
        method: Any = self.methods[index]  # an EmbeddingMethod; ModuleList forgets the type
        return method.combine(
            [
                self.tables[self.table_index[look.table]][rows]
                for look, rows in zip(method.lookups, method.rows(ids), strict=True)
            ]
        )  # (L, D)


def _pool(vectors: Tensor, lengths: Tensor, is_mean: bool) -> Tensor:
    """Vectors (L, D) of bags end to end → (B, D); an empty bag is zeros."""
    summed = sum_by_row(vectors, lengths)
    return summed / lengths.clamp(min=1)[:, None] if is_mean else summed
