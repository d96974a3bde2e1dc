"""hashed: the sum of k rows of one small table, chosen by k salted hashes of the id.

k = 1 is the hashing trick (Weinberger et al. 2009, §2); k > 1 makes full collisions rare, as in a
Bloom filter (Serrà and Karatzoglou 2017, §3).
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
from recsys.embeddings.table_spec import Lookup, TableSpec
from recsys.errors import RecsysError
from recsys.lookup_spec import Rule, Sum, TableLookup, looked_up


class HashedConfig(BaseMethodConfig):
    """A (num_buckets, embedding_dim) table read num_hashes times.

    With `total_rows` it is the baseline of `unified` at equal bytes (Coleman et al. 2023, §5).
    `by_feature` salts make collisions in one feature independent of those in another.
    """

    method: Literal["hashed"] = "hashed"
    num_buckets: PositiveInt | None = None  # rows of each table; either this or total_rows
    # rows of all features of this config together: feature f gets max(1, round(V_f / V ·
    # total_rows))
    total_rows: PositiveInt | None = None
    num_hashes: PositiveInt = 1  # rows that are summed for an id
    # features of at most this many ids get a full table, beside the total
    exact_below: NonNegativeInt = 0
    # by_feature: hashes are salted with the feature's name. common: salts 0 … k - 1 for every
    # feature, as in older runs
    salts: Literal["by_feature", "common"] = "by_feature"

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        if (self.num_buckets is None) == (self.total_rows is None):
            raise ValueError("either num_buckets, or total_rows to be shared out among features")
        return self

    def resolve(self, cardinalities: Mapping[str, int]) -> Mapping[str, BaseMethodConfig]:
        exact = FullTableConfig(embedding_dim=self.embedding_dim, init=self.init)
        hashed = {f: v for f, v in cardinalities.items() if v > self.exact_below}
        total = sum(hashed.values())
        return {
            feature: self._share(hashed[feature], total) if feature in hashed else exact
            for feature in cardinalities
        }

    def _share(self, cardinality: int, total: int) -> "HashedConfig":
        """This config with a feature's share of `total_rows` as its buckets."""
        if self.total_rows is None:
            return self
        num_buckets = max(1, round(cardinality * self.total_rows / total))
        return self.model_copy(update={"num_buckets": num_buckets})

    def build(self, feature: str, cardinality: int, table: str) -> "Hashed":
        num_buckets = self.num_buckets or self.total_rows or 0
        if self.total_rows is None and num_buckets >= cardinality:
            raise RecsysError(
                f"{feature}: hashing into {num_buckets} buckets saves nothing",
                expected=f"num_buckets below the feature's cardinality, {cardinality}",
                got=num_buckets,
                where=f"embeddings.features.{feature}",
                fix="use method full_table for this feature, fewer buckets, or `exact_below`: "
                "features with fewer ids get a row for each id",
            )
        table_spec = TableSpec(
            table,
            num_buckets,
            self.embedding_dim,
            # A sum of k rows has k times the variance of one: match a full table's.
            self.init.scaled(1.0 / math.sqrt(self.num_hashes)),
        )
        salt = feature_salt(table) if self.salts == "by_feature" else 0
        return Hashed(feature, cardinality, table_spec, self.num_hashes, salt)


class Hashed(EmbeddingMethod):
    """The vector of id i is Σ_k table[h_k(i)]."""

    name = "hashed"

    def __init__(
        self, feature: str, cardinality: int, table: TableSpec, num_hashes: int, salt: int
    ) -> None:
        """`salt`: of the first hash; hash k has `salt` + k."""
        super().__init__()
        self.cardinality, self.salt = cardinality, salt
        self.output_dim = table.dim
        self.table = table
        self.lookups = tuple(Lookup(f"{feature}/{k}", table.name) for k in range(num_hashes))

    def tables(self) -> tuple[TableSpec, ...]:
        return (self.table,)

    def rows(self, ids: Tensor) -> tuple[Tensor, ...]:
        return hash_chunks(ids, self.salt, len(self.lookups), self.table.num_rows).unbind()

    def combine(self, vectors: Sequence[Tensor]) -> Tensor:
        return torch.stack(tuple(vectors)).sum(0)

    def rule(self) -> Rule:
        steps = [hash_step(self.salt + k, self.table.num_rows) for k in range(len(self.lookups))]
        lookups = tuple(TableLookup(table=self.table.name, steps=(step,)) for step in steps)
        return Rule(lookups=lookups, vector=Sum(of=looked_up(len(steps))))
