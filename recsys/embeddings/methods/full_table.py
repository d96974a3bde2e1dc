"""full_table: one row for each id."""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor

from recsys.embeddings.methods.base import BaseMethodConfig, EmbeddingMethod
from recsys.embeddings.table_spec import Lookup, NormalInit, TableSpec, UniformInit
from recsys.lookup_spec import Rule, identity


class FullTableConfig(BaseMethodConfig):
    """A (cardinality, embedding_dim) table, the baseline of every comparison."""

    method: Literal["full_table"] = "full_table"

    def build(self, feature: str, cardinality: int, table: str) -> "FullTable":
        return FullTable(feature, cardinality, self.embedding_dim, table, self.init)


class FullTable(EmbeddingMethod):
    """The vector of id i is row i."""

    name = "full_table"

    def __init__(
        self,
        feature: str,
        cardinality: int,
        embedding_dim: int,
        table: str,
        init: NormalInit | UniformInit,
    ) -> None:
        super().__init__()
        self.cardinality = cardinality
        self.output_dim = embedding_dim
        self.lookups = (Lookup(feature, table),)
        self.table = TableSpec(table, cardinality, embedding_dim, init)

    @property
    def is_plain_table(self) -> bool:
        return True

    def tables(self) -> tuple[TableSpec, ...]:
        return (self.table,)

    def rows(self, ids: Tensor) -> tuple[Tensor, ...]:
        return (ids,)

    def combine(self, vectors: Sequence[Tensor]) -> Tensor:
        return vectors[0]

    def rule(self) -> Rule:
        return identity(self.table.name)
