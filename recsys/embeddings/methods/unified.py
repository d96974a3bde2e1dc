"""unified: many features hash into the rows of one shared table (feature multiplexing).

Unified Embedding (Coleman et al. 2023, §3). An id of feature f reads c rows of a table of M rows of
width w, chosen by c hashes that are salted with f, and is their concatenation (or their sum). The
parameters are M · w floats, whatever the features and their vocabularies; a feature with more
chunks has a wider vector. Colliding ids of one feature share gradients for good; collisions between
features can be told apart by the layers above.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Literal, Self

import torch
from pydantic import NonNegativeInt, PositiveInt, model_validator
from torch import Tensor

from recsys.embeddings.id_mapping.hashing import feature_salt, hash_chunks, hash_step
from recsys.embeddings.methods.base import BaseMethodConfig, EmbeddingMethod
from recsys.embeddings.methods.full_table import FullTableConfig
from recsys.embeddings.table_spec import Init, Lookup, TableSpec, UniformInit
from recsys.lookup_spec import Concat, Rule, Sum, TableLookup, looked_up


class UnifiedConfig(BaseMethodConfig):
    """`num_chunks` rows of a table that all features with the same `table` share.

    All features of one table need the same `num_rows` and the same row width.
    """

    method: Literal["unified"] = "unified"
    table: str = "unified"  # name of the shared table
    num_rows: PositiveInt  # rows of the shared table; equal in all its features
    num_chunks: PositiveInt = 1  # rows that make a vector
    # concat: rows of embedding_dim ÷ num_chunks floats. sum: of embedding_dim
    combine: Literal["concat", "sum"] = "concat"
    # features of at most this many ids get a full table, beside the shared one
    exact_below: NonNegativeInt = 0
    # features with equal salts read the same rows for the same ids; null: the name of the feature
    salt: str | None = None
    init: Init = UniformInit(bound=0.05)

    @model_validator(mode="after")
    def _chunks_fill_the_vector(self) -> Self:
        if self.combine == "concat" and self.embedding_dim % self.num_chunks:
            raise ValueError(
                f"an embedding_dim ({self.embedding_dim}) that num_chunks ({self.num_chunks}) "
                "divides: equal chunks side by side make the vector"
            )
        return self

    @property
    def chunk_dim(self) -> int:
        """Width of the shared table's rows."""
        is_sum = self.combine == "sum"
        return self.embedding_dim if is_sum else self.embedding_dim // self.num_chunks

    def resolve(self, cardinalities: Mapping[str, int]) -> Mapping[str, BaseMethodConfig]:
        return {
            feature: FullTableConfig(embedding_dim=self.embedding_dim, init=self.init)
            if cardinality <= self.exact_below
            else self
            for feature, cardinality in cardinalities.items()
        }

    def build(self, feature: str, cardinality: int, table: str) -> "Unified":
        """`table` is the feature whose ids these are: by default its name is the salt."""
        # a sum of c rows has c times the variance of one
        factor = 1.0 / math.sqrt(self.num_chunks) if self.combine == "sum" else 1.0
        shared = TableSpec(self.table, self.num_rows, self.chunk_dim, self.init.scaled(factor))
        salt = feature_salt(self.salt or table)
        return Unified(feature, cardinality, shared, salt, (self.num_chunks, self.combine))


class Unified(EmbeddingMethod):
    """The vector of id i is table[h(f, 0, i)] ‖ … ‖ table[h(f, c - 1, i)], or the sum of these."""

    name = "unified"

    def __init__(
        self,
        feature: str,
        cardinality: int,
        table: TableSpec,
        salt: int,
        chunks: tuple[int, Literal["concat", "sum"]],
    ) -> None:
        """`chunks`: how many, and what becomes of them."""
        super().__init__()
        num_chunks, self.operation = chunks
        self.cardinality, self.table, self.salt = cardinality, table, salt
        self.output_dim = table.dim * (num_chunks if self.operation == "concat" else 1)
        self.lookups = tuple(Lookup(f"{feature}/{k}", table.name) for k in range(num_chunks))

    def tables(self) -> tuple[TableSpec, ...]:
        return (self.table,)

    def rows(self, ids: Tensor) -> tuple[Tensor, ...]:
        return hash_chunks(ids, self.salt, len(self.lookups), self.table.num_rows).unbind()

    def combine(self, vectors: Sequence[Tensor]) -> Tensor:
        if self.operation == "concat":
            return torch.cat(tuple(vectors), dim=1)
        return torch.stack(tuple(vectors)).sum(0)

    def rule(self) -> Rule:
        steps = [hash_step(self.salt + k, self.table.num_rows) for k in range(len(self.lookups))]
        parts = looked_up(len(steps))
        return Rule(
            lookups=tuple(TableLookup(table=self.table.name, steps=(step,)) for step in steps),
            vector=Concat(of=parts) if self.operation == "concat" else Sum(of=parts),
        )
