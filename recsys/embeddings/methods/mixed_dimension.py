"""mixed_dimension: rows of d floats, d smaller for rarer ids, projected to embedding_dim D.

Ginart et al. 2019, §3: block i of the ids has a table (n_i, d_i) and, where d_i < D, a d_i × D
matrix P_i without bias; the vector of an id is its row · P_i. Blocks are whole features, whose
dims the power rule gives (`power_rule.py`), or bands of one feature's ids by frequency.

P is Xavier uniform, as in the authors' code; rows are scaled so that row · P has the variance of
`init`.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, NamedTuple, Self

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn

from recsys.config.base import BaseConfig
from recsys.embeddings.id_mapping.power_rule import Rounding, anchored_dims, dims_within
from recsys.embeddings.methods.base import BaseMethodConfig, EmbeddingMethod
from recsys.embeddings.methods.blocks import without_zero_rows
from recsys.embeddings.table_spec import Init, Lookup, RowsOf, TableSpec
from recsys.errors import RecsysError
from recsys.lookup_spec import Band, Linear, LookedUp, Rule, Sum, TableLookup

Share = Annotated[float, Field(gt=0, le=1)]


class FrequencyBandConfig(BaseConfig):
    """A share of a feature's ids, with rows of `dim` floats."""

    share: Share  # share of the feature's ids
    dim: PositiveInt  # width of their rows, floats


class MixedDimensionConfig(BaseMethodConfig):
    """Narrow rows and a d × embedding_dim projection; one of `temperature`, `dim` and `bands`."""

    method: Literal["mixed_dimension"] = "mixed_dimension"
    # α of the power rule d = λ · n^-α for a feature of n ids, from 1 to embedding_dim
    temperature: float | None = Field(default=None, ge=0, le=1)
    # largest number of floats in rows and projections, of all features of this config: λ is the
    # largest that meets it; without a budget the smallest feature has embedding_dim
    budget_floats: PositiveInt | None = None
    budget_share: Share | None = None  # the same as a share of the floats of full tables
    rounding: Rounding = "none"  # of d
    dim: PositiveInt | None = None  # d of each feature, floats
    # d by frequency: the most frequent ids first, id 0 included; shares that sum to 1
    bands: tuple[FrequencyBandConfig, ...] = ()

    @model_validator(mode="after")
    def _one_choice(self) -> Self:
        given = (self.temperature is not None, self.dim is not None, bool(self.bands))
        if sum(given) != 1:
            raise ValueError("one of temperature, dim and bands")
        budgets = (self.budget_floats is not None, self.budget_share is not None)
        if sum(budgets) > 1 or (any(budgets) and self.temperature is None):
            raise ValueError("at most one of budget_floats and budget_share, with temperature")
        return self

    @model_validator(mode="after")
    def _bands_fit(self) -> Self:
        dims = [band.dim for band in self.bands] + ([] if self.dim is None else [self.dim])
        if any(dim > self.embedding_dim for dim in dims):
            raise ValueError(f"dims of at most embedding_dim, {self.embedding_dim}")
        if self.bands and not math.isclose(sum(band.share for band in self.bands), 1.0):
            raise ValueError("bands whose shares sum to 1")
        return self

    def resolve(self, cardinalities: Mapping[str, int]) -> Mapping[str, BaseMethodConfig]:
        if self.temperature is None or not cardinalities:
            return dict.fromkeys(cardinalities, self)
        sizes = list(cardinalities.values())
        rule = (self.temperature, self.embedding_dim, self.rounding)
        budget = self.budget_floats
        if self.budget_share is not None:
            budget = int(self.budget_share * sum(sizes) * self.embedding_dim)
        if budget is None:
            dims = anchored_dims(sizes, *rule)
        else:
            dims = dims_within(budget, cardinalities, *rule)
        return {
            feature: MixedDimensionConfig(embedding_dim=self.embedding_dim, init=self.init, dim=dim)
            for feature, dim in zip(cardinalities, dims, strict=True)
        }

    def build(self, feature: str, cardinality: int, table: str) -> EmbeddingMethod:
        if self.temperature is not None:
            return self.resolve({feature: cardinality})[feature].build(feature, cardinality, table)
        bands = self.bands or (FrequencyBandConfig(share=1.0, dim=self.dim or self.embedding_dim),)
        inner = [sum(b.share for b in bands[:j]) * cardinality for j in range(1, len(bands))]
        ends = [*map(round, inner), cardinality]
        firsts = [0, *ends[:-1]]
        if any(first >= end for first, end in zip(firsts, ends, strict=True)):
            raise RecsysError(
                f"{feature}: a band has no ids",
                expected=f"shares of {cardinality} ids that are one id at least",
                got=", ".join(str(band.share) for band in bands),
                fix="use fewer bands for this feature",
            )
        blocks = [
            Block(first, end - first, band.dim)
            for first, end, band in zip(firsts, ends, bands, strict=True)
        ]
        return MixedDimension(feature, table, blocks, self.embedding_dim, self.init)


class Block(NamedTuple):
    """`size` ids from `first` on, with rows of `dim` floats."""

    first: int
    size: int
    dim: int


class MixedDimension(EmbeddingMethod):
    """The vector of id i in block b is E_b[i - first_b] · P_b.

    With several blocks, ids of the others read a last row that is zero and, because it passes no
    gradient on, stays so. A sum of rows cannot tell which were zero: then rows are combined first.
    """

    name = "mixed_dimension"

    def __init__(
        self, feature: str, table: str, blocks: Sequence[Block], embedding_dim: int, init: Init
    ) -> None:
        super().__init__()
        self.blocks, self.output_dim = tuple(blocks), embedding_dim
        self.cardinality = sum(block.size for block in blocks)
        is_one = len(blocks) == 1
        self.commutes_with_sum = is_one
        names = [table if is_one else f"{table}/{j}" for j in range(len(blocks))]
        self._tables = tuple(
            self._table(name, block, init) for name, block in zip(names, blocks, strict=True)
        )
        self.lookups = tuple(
            Lookup(feature if is_one else f"{feature}/{j}", name) for j, name in enumerate(names)
        )
        # a matrix for each block that is narrower than embedding_dim
        self.projections = nn.ParameterDict(
            {
                str(j): nn.init.xavier_uniform_(torch.empty(block.dim, embedding_dim))
                for j, block in enumerate(blocks)
                if block.dim < embedding_dim
            }
        )

    def _table(self, name: str, block: Block, init: Init) -> TableSpec:
        # row · P has dim · 2 / (dim + D) times a row's variance
        factor = math.sqrt((block.dim + self.output_dim) / (2.0 * block.dim))
        rows = TableSpec(name, block.size, block.dim, init.scaled(factor))
        if len(self.blocks) == 1:
            return rows
        with_zero_row = torch.cat([torch.arange(block.size), torch.tensor([-1])])
        from_rows = RowsOf(rows, with_zero_row, torch.arange(block.dim))
        return TableSpec(name, block.size + 1, block.dim, from_rows)

    @property
    def is_plain_table(self) -> bool:
        return len(self.blocks) == 1 and not self.projections

    def tables(self) -> tuple[TableSpec, ...]:
        return self._tables

    def rows(self, ids: Tensor) -> tuple[Tensor, ...]:
        if len(self.blocks) == 1:
            return (ids,)
        return tuple(_rows_in(block, ids.long()) for block in self.blocks)

    def combine(self, vectors: Sequence[Tensor]) -> Tensor:
        parts = []
        for j, rows in enumerate(vectors):
            kept = rows if len(self.blocks) == 1 else without_zero_rows(rows)
            parts.append(kept @ self.projections[str(j)] if str(j) in self.projections else kept)
        return torch.stack(parts).sum(0)

    def rule(self) -> Rule:
        return Rule(
            lookups=tuple(self._lookup(j) for j in range(len(self.blocks))),
            vector=Sum(of=tuple(self._projected(j) for j in range(len(self.blocks)))),
        )

    def _lookup(self, j: int) -> TableLookup:
        table, block = self._tables[j].name, self.blocks[j]
        if len(self.blocks) == 1:
            return TableLookup(table=table)
        band = Band(first=block.first, end=block.first + block.size)
        return TableLookup(table=table, steps=(band,), missing_row=block.size)

    def _projected(self, j: int) -> LookedUp | Linear:
        row = LookedUp(index=j)
        return Linear(of=row, matrix=f"projections.{j}") if str(j) in self.projections else row


def _rows_in(block: Block, ids: Tensor) -> Tensor:
    """Ids (L,) → rows of the block's table (L,); its last one for ids of other blocks."""
    local = ids - block.first
    return torch.where((local >= 0) & (local < block.size), local, block.size)
