"""Network: the dense part of a run, from looked-up vectors and raw numericals to logits.

This is what is exported as ONNX; the tables are exported beside it.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from recsys.embeddings.config import EmbeddingsConfig
from recsys.layers.field_projection import FieldPadding, FieldProjection
from recsys.layers.numerical_embedding import NumericalEmbedding
from recsys.models.base import BaseModelConfig, EqualWidthModelConfig, Field
from recsys.schema import Schema


class Network(nn.Module):
    """Numericals become vectors where asked, fields get one width, then the model scores them."""

    vector_columns: Tensor
    raw_columns: Tensor

    def __init__(
        self,
        model: nn.Module,
        numerical: NumericalEmbedding | None,
        vector_columns: Sequence[int],
        raw_columns: Sequence[int],
        projection: FieldProjection | FieldPadding | None = None,
    ) -> None:
        super().__init__()
        self.model, self.numerical, self.projection = model, numerical, projection
        self.register_buffer(
            "vector_columns", torch.tensor(vector_columns, dtype=torch.long), persistent=False
        )
        self.register_buffer(
            "raw_columns", torch.tensor(raw_columns, dtype=torch.long), persistent=False
        )
        self.is_all_vector = len(raw_columns) == 0

    def forward(self, vectors: Tensor, dense: Tensor) -> Tensor:
        """Sparse features' vectors (B, ΣD) and numericals (B, N) → logits (B,)."""
        if self.numerical is not None:
            chosen = dense if self.is_all_vector else dense[:, self.vector_columns]
            vectors = torch.cat([vectors, self.numerical(chosen)], dim=1)
            dense = dense[:, self.raw_columns]
        if self.projection is not None:
            vectors = self.projection(vectors)
        return self.model(vectors, dense)


def build_network(
    model: BaseModelConfig,
    embeddings: EmbeddingsConfig,
    schema: Schema,
    output_dims: Mapping[str, int],
) -> Network:
    """The network for a data set; `output_dims` are the sparse features' widths, in order."""
    choices = [embeddings.numerical_of(feature.name) for feature in schema.numerical]
    vector_columns = [i for i, choice in enumerate(choices) if choice == "vector"]
    raw_columns = [i for i, choice in enumerate(choices) if choice == "raw"]
    numerical = None
    if vector_columns:
        numerical = NumericalEmbedding(len(vector_columns), embeddings.default.embedding_dim)
    fields = _fields(embeddings, schema, output_dims)
    network = model.build(fields, len(raw_columns))
    projection = _projection(model, fields)
    return Network(network, numerical, vector_columns, raw_columns, projection)


def projected_floats(
    model: BaseModelConfig,
    embeddings: EmbeddingsConfig,
    schema: Schema,
    output_dims: Mapping[str, int],
) -> dict[str, int]:
    """Sparse feature → floats of the matrix that brings it to the model's width, if there is one.

    Numericals' vectors and matrices are the network's, not a feature's.
    """
    if not isinstance(model, EqualWidthModelConfig) or model.mixed_widths != "project":
        return {}
    out_width = model.common_dim(_fields(embeddings, schema, output_dims))
    return {name: d * out_width for name, d in output_dims.items() if d != out_width}


def _fields(
    embeddings: EmbeddingsConfig, schema: Schema, output_dims: Mapping[str, int]
) -> list[Field]:
    """What the model sees: the sparse features, then the numericals that become vectors."""
    vectors = [f.name for f in schema.numerical if embeddings.numerical_of(f.name) == "vector"]
    width = embeddings.default.embedding_dim
    return [Field(*item) for item in output_dims.items()] + [Field(n, width) for n in vectors]


def _projection(
    model: BaseModelConfig, fields: Sequence[Field]
) -> FieldProjection | FieldPadding | None:
    """What brings the fields to the model's one width; None where they have it."""
    if not isinstance(model, EqualWidthModelConfig):
        return None
    widths, out_width = [field.dim for field in fields], model.common_dim(fields)
    if set(widths) <= {out_width}:
        return None
    layer = FieldPadding if model.mixed_widths == "pad" else FieldProjection
    return layer(widths, out_width)
