"""compositional: an id's vector is made of one row from each of a few small tables.

Shi et al. 2020 (§3 complementary partitions, §4 path-based): each partition puts an id in a class,
each class has a row, and `operation` makes one vector of the rows.

    multiply   v_1 ⊙ … ⊙ v_k
    add        v_1 + … + v_k
    concat     v_1 ‖ … ‖ v_k, whose widths share out embedding_dim
    separate   the same with widths of embedding_dim each, as if each partition were a feature of
               its own: the vector has k · embedding_dim columns
    path_mlp   the largest partition's vector, through one small MLP for each other partition: a
               class picks the MLP, whose weights are the class's rows

Initial variance equals a plain table's of standard deviation s: factors have s^(1/k), summands
s/√k, blocks s. A path starts at 1, which the MLPs' He initialization keeps, and the last layer
brings it to s.
"""

import math
from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Literal, NamedTuple, Self

import torch
from pydantic import NonNegativeInt, PositiveInt, model_validator
from torch import Tensor

from recsys.embeddings.id_mapping.partitions import Partition, PartitionsConfig
from recsys.embeddings.methods.base import BaseMethodConfig, EmbeddingMethod
from recsys.embeddings.methods.full_table import FullTableConfig
from recsys.embeddings.table_spec import Lookup, TableSpec, UniformInit
from recsys.errors import RecsysError
from recsys.lookup_spec import (
    Concat,
    LinearByRow,
    Product,
    Relu,
    Rule,
    Sum,
    TableLookup,
    Vector,
    looked_up,
)

Operation = Literal["multiply", "add", "concat", "separate", "path_mlp"]
IDS_AT_ONCE = 1 << 16


class _Part(NamedTuple):
    """A table with a row of `dim` floats for each class of a partition, and their initial std."""

    partition: Partition
    dim: int
    std: float


class CompositionalConfig(BaseMethodConfig):
    """A vector from one row of each of k small tables.

    Features for which this would need no fewer rows or floats than a full table are refused.
    """

    method: Literal["compositional"] = "compositional"
    partitions: PartitionsConfig  # how an id becomes one class in each of k tables
    operation: Operation = "multiply"  # how the k rows become a vector
    hidden_dim: PositiveInt | None = None  # hidden width of path_mlp
    full_below: NonNegativeInt = 0  # features of at most this many ids get a full table

    @model_validator(mode="after")
    def _hidden_dim_of_a_path(self) -> Self:
        if (self.hidden_dim is None) == (self.operation == "path_mlp"):
            raise ValueError("hidden_dim with operation path_mlp, and with no other")
        return self

    def resolve(self, cardinalities: Mapping[str, int]) -> Mapping[str, BaseMethodConfig]:
        large = {f: v for f, v in cardinalities.items() if v > self.full_below}
        rules = self.partitions.resolve(large)
        full = FullTableConfig(embedding_dim=self.embedding_dim, init=self.init)
        return {
            feature: full
            if rules.get(feature) is None
            else self.model_copy(update={"partitions": rules[feature]})
            for feature in cardinalities
        }

    def build(self, feature: str, cardinality: int, table: str) -> "Compositional":
        partitions = self.partitions.partitions(feature, cardinality)
        parts = self._parts(partitions)
        rows, floats = sum(p.partition.size for p in parts), sum(p[0].size * p.dim for p in parts)
        if rows >= cardinality or floats >= cardinality * self.embedding_dim:
            raise RecsysError(
                f"{feature}: these partitions save nothing",
                expected=f"fewer than a full table's {cardinality} rows and "
                f"{cardinality * self.embedding_dim} floats",
                got=f"{rows} rows and {floats} floats",
                fix=f"use method full_table for this feature, or full_below: {cardinality}",
            )
        if any(partition.size == 1 for partition in partitions):
            raise RecsysError(
                f"{feature}: {cardinality} ids are too few for {len(partitions)} partitions",
                expected="two classes or more in each partition",
                got=", ".join(f"{partition.size}" for partition in partitions),
                fix=f"use fewer partitions, method full_table, or full_below: {cardinality}",
            )
        if any(part.dim == 0 for part in parts):
            raise RecsysError(
                f"{feature}: {len(parts)} partitions cannot share {self.embedding_dim} columns",
                expected=f"an embedding_dim of at least {len(parts)} for concat",
                got=self.embedding_dim,
            )
        tables = tuple(
            TableSpec(
                f"{table}/{j}",
                part.partition.size,
                part.dim,
                self.init.scaled(part.std / self._std),
            )
            for j, part in enumerate(parts)
        )
        of_tables = [part.partition for part in parts]
        return Compositional(feature, cardinality, of_tables, tables, self.operation)

    @property
    def _std(self) -> float:
        """Of a plain table's initial entries."""
        init = self.init
        return init.bound / math.sqrt(3.0) if isinstance(init, UniformInit) else init.std

    def _parts(self, partitions: Sequence[Partition]) -> list[_Part]:
        dim, k, std = self.embedding_dim, len(partitions), self._std
        if self.operation == "multiply":
            return [_Part(p, dim, std ** (1 / k)) for p in partitions]
        if self.operation == "add":
            return [_Part(p, dim, std / math.sqrt(k)) for p in partitions]
        if self.operation == "concat":
            return [_Part(p, dim // k + (j < dim % k), std) for j, p in enumerate(partitions)]
        if self.operation == "separate":
            return [_Part(p, dim, std) for p in partitions]
        return self._path(sorted(partitions, key=lambda p: -p.size))

    def _path(self, partitions: Sequence[Partition]) -> list[_Part]:
        """The start, then both layers of each MLP; a bias is the weight of a constant 1."""
        dim, hidden = self.embedding_dim, self.hidden_dim or 0
        parts = [_Part(partitions[0], dim, 1.0)]
        for partition in partitions[1:]:
            answer_std = self._std if partition is partitions[-1] else 1.0
            parts += [
                _Part(partition, (dim + 1) * hidden, math.sqrt(2.0 / (dim + 1))),
                _Part(partition, (hidden + 1) * dim, answer_std / math.sqrt(hidden + 1)),
            ]
        return parts


class Compositional(EmbeddingMethod):
    """One lookup for each table; the rows are classes of the ids."""

    name = "compositional"

    def __init__(
        self,
        feature: str,
        cardinality: int,
        partitions: Sequence[Partition],
        tables: tuple[TableSpec, ...],
        operation: Operation,
    ) -> None:
        """`partitions`: that of each table."""
        super().__init__()
        self.cardinality, self.operation = cardinality, operation
        self.partitions, self._tables = tuple(partitions), tables
        is_cat = operation in ("concat", "separate")
        self.output_dim = sum(table.dim for table in tables) if is_cat else tables[0].dim
        self.lookups = tuple(Lookup(f"{feature}/{j}", t.name) for j, t in enumerate(tables))
        # Σ (q ⊙ r) is not Σ q ⊙ Σ r
        self.commutes_with_sum = operation not in ("multiply", "path_mlp")

    def tables(self) -> tuple[TableSpec, ...]:
        return self._tables

    def rows(self, ids: Tensor) -> tuple[Tensor, ...]:
        return tuple(partition.classes(ids) for partition in self.partitions)

    def combine(self, vectors: Sequence[Tensor]) -> Tensor:
        if self.operation == "multiply":
            return reduce(torch.mul, vectors)
        if self.operation == "add":
            return reduce(torch.add, vectors)
        if self.operation == "path_mlp":
            path = vectors[0]
            for first, second in zip(vectors[1::2], vectors[2::2], strict=True):
                path = _layer(torch.relu(_layer(path, first)), second)
            return path
        return torch.cat(tuple(vectors), dim=1)

    def rule(self) -> Rule:
        lookups = tuple(
            TableLookup(table=table.name, steps=partition.steps())
            for table, partition in zip(self._tables, self.partitions, strict=True)
        )
        return Rule(lookups=lookups, vector=self._vector())

    def _vector(self) -> Vector:
        parts = looked_up(len(self.lookups))
        if self.operation == "multiply":
            return Product(of=parts)
        if self.operation == "add":
            return Sum(of=parts)
        if self.operation == "path_mlp":
            path: Vector = parts[0]
            for first, second in zip(parts[1::2], parts[2::2], strict=True):
                path = LinearByRow(of=Relu(of=LinearByRow(of=path, weights=first)), weights=second)
            return path
        return Concat(of=parts)

    def materialize(self, weights: Mapping[str, Tensor]) -> Tensor:
        """In blocks: an id's MLPs are many times as large as its vector."""
        blocks = []
        for ids in torch.split(torch.arange(self.cardinality), IDS_AT_ONCE):
            found = zip(self._tables, self.rows(ids), strict=True)
            blocks.append(self.combine([weights[table.name][rows] for table, rows in found]))
        return torch.cat(blocks)


def _layer(inputs: Tensor, weights: Tensor) -> Tensor:
    """Inputs (L, n) through a linear layer each, weights (L, (n + 1) · m), biases last → (L, m)."""
    rows, n = inputs.shape
    matrices = weights.reshape(rows, n + 1, weights.shape[1] // (n + 1))
    return torch.baddbmm(matrices[:, n:], inputs[:, None], matrices[:, :n]).squeeze(1)
