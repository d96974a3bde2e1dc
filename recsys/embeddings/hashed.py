"""hashed: the sum of k rows of one small table, chosen by k salted hashes of the id.

k = 1 is the hashing trick (Weinberger et al. 2009, §2); k > 1 makes full collisions rare, as in a
Bloom filter (Serrà and Karatzoglou 2017, §3).
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import PositiveInt
from torch import Tensor

from recsys.embeddings.base import (
    BaseMethodConfig,
    EmbeddingMethod,
    Lookup,
    TableSpec,
)
from recsys.embeddings.hashing import hash_rows
from recsys.errors import RecsysError


class HashedConfig(BaseMethodConfig):
    """A (num_buckets, embedding_dim) table read num_hashes times."""

    method: Literal["hashed"] = "hashed"
    num_buckets: PositiveInt
    num_hashes: PositiveInt = 1

    def build(self, feature: str, cardinality: int, table: str) -> "Hashed":
        if self.num_buckets >= cardinality:
            raise RecsysError(
                f"{feature}: hashing into {self.num_buckets} buckets saves nothing",
                expected=f"num_buckets below the feature's cardinality, {cardinality}",
                got=self.num_buckets,
                fix="use method full_table for this feature, or fewer buckets",
            )
        table_spec = TableSpec(
            table,
            self.num_buckets,
            self.embedding_dim,
            # A sum of k rows has k times the variance of one: match a full table's.
            self.init.scaled(1.0 / math.sqrt(self.num_hashes)),
        )
        return Hashed(feature, cardinality, table_spec, self.num_hashes)


class Hashed(EmbeddingMethod):
    """The vector of id i is Σ_k table[h_k(i)]."""

    name = "hashed"

    def __init__(self, feature: str, cardinality: int, table: TableSpec, num_hashes: int) -> None:
        super().__init__()
        self.cardinality = cardinality
        self.output_dim = table.dim
        self.table = table
        self.lookups = tuple(Lookup(f"{feature}/{k}", table.name) for k in range(num_hashes))

    def tables(self) -> tuple[TableSpec, ...]:
        return (self.table,)

    def rows(self, ids: Tensor) -> tuple[Tensor, ...]:
        return tuple(hash_rows(ids, k, self.table.num_rows) for k in range(len(self.lookups)))

    def combine(self, vectors: Sequence[Tensor]) -> Tensor:
        return torch.stack(tuple(vectors)).sum(0)
