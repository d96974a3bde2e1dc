"""Network: the dense part of a run, from looked-up vectors and raw numericals to logits.

This is what is exported as ONNX; the tables are exported beside it.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from recsys.embeddings.combine import FeatureVectors
from recsys.embeddings.methods.base import EmbeddingKey
from recsys.errors import RecsysError
from recsys.history_pair import HistoryPair, history_features
from recsys.layers.fields import FieldPadding, FieldProjection, NumericalEmbedding
from recsys.layers.history import History
from recsys.losses import Task
from recsys.models.base import (
    SEARCH_ROLE,
    BaseModelConfig,
    EqualWidthModelConfig,
    Field,
    HasAuxiliaryHead,
    HistoryShape,
    SequenceModelConfig,
    pairs_of,
)
from recsys.schema import Schema

if TYPE_CHECKING:  # keeps the import chain short
    from recsys.embeddings.config import EmbeddingsConfig


class Network(nn.Module):
    """Embeds numericals as configured, brings fields to one width, and scores with the model."""

    vector_columns: Tensor
    raw_columns: Tensor

    def __init__(
        self,
        model: nn.Module,
        numerical: NumericalEmbedding | None,
        is_vector: Sequence[bool],
        projection: FieldProjection | FieldPadding | None,
        pairs: Sequence[HistoryPair],
        columns: Mapping[str, slice],
        task: Task,
    ) -> None:
        """`is_vector`: for each numerical, whether it becomes a vector; the others stay raw."""
        super().__init__()
        self.model, self.numerical, self.projection = model, numerical, projection
        self.pairs, self.columns, self.task = tuple(pairs), columns, task
        for name, chosen in (("vector_columns", True), ("raw_columns", False)):
            places = [i for i, choice in enumerate(is_vector) if choice is chosen]
            self.register_buffer(name, torch.tensor(places, dtype=torch.long), persistent=False)
        self.is_all_vector = all(is_vector)

    def forward(
        self, vectors: FeatureVectors, dense: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Vectors and numericals (B, N) → logits (B,), and the weighted loss of a second head, ().

        The second head, if the model has one, only adds a loss in training and never scores.
        """
        histories = [history_of(pair, vectors, self.columns) for pair in self.pairs]
        inputs = self._inputs(vectors.fields, dense)
        model = self.model
        if not (self.training and isinstance(model, HasAuxiliaryHead) and model.auxiliary_weight):
            return self.model(*inputs, *histories), dense.new_zeros(())
        logits, second = model.forward_with_auxiliary(*inputs, *histories)
        loss = self.task.loss(second, labels)
        return logits, model.auxiliary_weight * loss / max(len(labels), 1)

    def score(self, vectors: Tensor, dense: Tensor, *histories: History) -> Tensor:
        """Fields' vectors (B, ΣD), numericals (B, N), a history for each pair → logits (B,)."""
        logits: Tensor = self.model(*self._inputs(vectors, dense), *histories)
        return logits

    def _inputs(self, vectors: Tensor, dense: Tensor) -> tuple[Tensor, Tensor]:
        if self.numerical is not None:
            chosen = dense if self.is_all_vector else dense[:, self.vector_columns]
            vectors = torch.cat([vectors, self.numerical(chosen)], dim=1)
            dense = dense[:, self.raw_columns]
        if self.projection is not None:
            vectors = self.projection(vectors)
        return vectors, dense


def history_of(pair: HistoryPair, vectors: FeatureVectors, columns: Mapping[str, slice]) -> History:
    """A pair's looked-up vectors; `columns`: those of each field in `vectors.fields`."""
    unpooled = vectors.unpooled
    return History(
        torch.cat([unpooled[EmbeddingKey(name)] for name in pair.history], dim=1),
        vectors.lengths[pair.history[0]],
        torch.cat([vectors.fields[:, columns[name]] for name in pair.target], dim=1),
        vectors.max_length,
        _compared(unpooled, pair.history),
        _compared(unpooled, pair.target),
    )


def _compared(unpooled: Mapping[EmbeddingKey, Tensor], names: Sequence[str]) -> Tensor | None:
    """The vectors that attention compares, side by side; None if it has none of its own."""
    keys = [EmbeddingKey(name, SEARCH_ROLE) for name in names]
    if keys[0] not in unpooled:
        return None
    return torch.cat([unpooled[key] for key in keys], dim=1)


def columns_of(fields: Mapping[str, int]) -> dict[str, slice]:
    """The columns of each field in their concatenation, by name."""
    columns, start = {}, 0
    for name, dim in fields.items():
        columns[name] = slice(start, start + dim)
        start += dim
    return columns


def build_network(
    model: BaseModelConfig | SequenceModelConfig,
    embeddings: "EmbeddingsConfig",
    schema: Schema,
    output_dims: Mapping[EmbeddingKey, int],
) -> Network:
    """The network for a dataset; `output_dims`: widths of the embeddings, in order."""
    is_vector = [embeddings.numerical_of(f.name) == "vector" for f in schema.numerical]
    num_vectors, num_raw = sum(is_vector), len(is_vector) - sum(is_vector)
    numerical = None
    if num_vectors:
        numerical = NumericalEmbedding(num_vectors, embeddings.default.embedding_dim)
    pairs = pairs_of(model)
    widths = _field_widths(schema, output_dims, pairs)
    fields = _fields(embeddings, schema, widths)
    if isinstance(model, SequenceModelConfig):
        shapes = [_shape_of(pair, schema, output_dims) for pair in pairs]
        network = model.build(fields, num_raw, shapes)
    else:
        network = model.build(fields, num_raw)
    task = Task(name=schema.label, label=schema.label)
    projection = _projection(model, fields)
    return Network(network, numerical, is_vector, projection, pairs, columns_of(widths), task)


def _field_widths(
    schema: Schema, output_dims: Mapping[EmbeddingKey, int], pairs: Sequence[HistoryPair]
) -> dict[str, int]:
    """Widths of the sparse features that are fields: all except histories."""
    histories = history_features(pairs)
    names = [f.name for f in schema.sparse if f.name not in histories]
    return {name: output_dims[EmbeddingKey(name)] for name in names}


def _shape_of(
    pair: HistoryPair, schema: Schema, output_dims: Mapping[EmbeddingKey, int]
) -> HistoryShape:
    dims = {name: output_dims[EmbeddingKey(name)] for name in (*pair.target, *pair.history)}
    attention = {
        name: output_dims.get(EmbeddingKey(name, SEARCH_ROLE), dim) for name, dim in dims.items()
    }
    for target, history in zip(pair.target, pair.history, strict=True):
        for found in (dims, attention):
            if found[target] != found[history]:
                raise RecsysError(
                    f"{target} and {history} are compared, so their vectors must be of one width",
                    where="embeddings",
                    expected=f"{found[target]}, as {target} has",
                    got=f"{found[history]} for {history}",
                    fix=f"write embeddings.features.{history}.shares_table_with: {target}",
                )
    lengths = [schema.feature(name).max_length for name in pair.history]
    return HistoryShape(
        tuple(dims[name] for name in pair.target),
        tuple(attention[name] for name in pair.target),
        None if None in lengths else max(length for length in lengths if length is not None),
    )


def projected_floats(
    model: BaseModelConfig | SequenceModelConfig,
    embeddings: "EmbeddingsConfig",
    schema: Schema,
    output_dims: Mapping[EmbeddingKey, int],
) -> dict[str, int]:
    """Sparse feature → floats of the matrix that brings it to the model's width, if there is one.

    Numericals' vectors and matrices are the network's, not a feature's.
    """
    if not isinstance(model, EqualWidthModelConfig) or model.mixed_widths != "project":
        return {}
    widths = {key.feature: dim for key, dim in output_dims.items() if not key.role}
    out_width = model.common_dim(_fields(embeddings, schema, widths))
    return {name: d * out_width for name, d in widths.items() if d != out_width}


def _fields(
    embeddings: "EmbeddingsConfig", schema: Schema, widths: Mapping[str, int]
) -> list[Field]:
    """The model's fields: the sparse features, then the numericals that become vectors."""
    vectors = [f.name for f in schema.numerical if embeddings.numerical_of(f.name) == "vector"]
    width = embeddings.default.embedding_dim
    return [Field(*item) for item in widths.items()] + [Field(n, width) for n in vectors]


def _projection(
    model: BaseModelConfig | SequenceModelConfig, fields: Sequence[Field]
) -> FieldProjection | FieldPadding | None:
    """The layer that brings the fields to the model's width; None if they have it."""
    if not isinstance(model, EqualWidthModelConfig):
        return None
    widths, out_width = [field.dim for field in fields], model.common_dim(fields)
    if set(widths) <= {out_width}:
        return None
    layer = FieldPadding if model.mixed_widths == "pad" else FieldProjection
    return layer(widths, out_width)
