"""Network: the dense part of a run, from looked-up vectors and raw numericals to logits.

This is what is exported as ONNX; the tables are exported beside it.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from recsys.embeddings.config import EmbeddingsConfig
from recsys.layers.numerical_embedding import NumericalEmbedding
from recsys.models.base import BaseModelConfig, Field
from recsys.schema import Schema


class Network(nn.Module):
    """Numericals become vectors where asked, then the model scores all fields."""

    vector_columns: Tensor
    raw_columns: Tensor

    def __init__(
        self,
        model: nn.Module,
        numerical: NumericalEmbedding | None,
        vector_columns: Sequence[int],
        raw_columns: Sequence[int],
    ) -> None:
        super().__init__()
        self.model, self.numerical = model, numerical
        self.register_buffer(
            "vector_columns", torch.tensor(vector_columns, dtype=torch.long), persistent=False
        )
        self.register_buffer(
            "raw_columns", torch.tensor(raw_columns, dtype=torch.long), persistent=False
        )
        self.is_all_vector = len(raw_columns) == 0

    def forward(self, vectors: Tensor, dense: Tensor) -> Tensor:
        """Sparse features' vectors (B, ΣD) and numericals (B, N) → logits (B,)."""
        if self.numerical is None:
            return self.model(vectors, dense)
        chosen = dense if self.is_all_vector else dense[:, self.vector_columns]
        vectors = torch.cat([vectors, self.numerical(chosen)], dim=1)
        return self.model(vectors, dense[:, self.raw_columns])


def build_network(
    model: BaseModelConfig,
    embeddings: EmbeddingsConfig,
    schema: Schema,
    output_dims: dict[str, int],
) -> Network:
    """The network for a data set; `output_dims` are the sparse features' widths, in order."""
    choices = [embeddings.numerical_of(feature.name) for feature in schema.numerical]
    vector_columns = [i for i, choice in enumerate(choices) if choice == "vector"]
    raw_columns = [i for i, choice in enumerate(choices) if choice == "raw"]
    width = embeddings.default.embedding_dim
    fields = [Field(name, dim) for name, dim in output_dims.items()]
    fields += [Field(schema.numerical[i].name, width) for i in vector_columns]
    numerical = NumericalEmbedding(len(vector_columns), width) if vector_columns else None
    network = model.build(fields, len(raw_columns))
    return Network(network, numerical, vector_columns, raw_columns)
