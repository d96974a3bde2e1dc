"""The rule of an embedding: how an id becomes a vector, in a few primitives for any language.

A rule is data (JSON in an export's manifest). Each lookup maps an id to a row of a physical table;
`vector` combines the rows that were looked up. `recsys/serving/decoder.py` evaluates rules with
numpy; an embedding method that states its rule needs no decoder of its own.
"""

from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeInt, model_validator

from recsys.config.base import BaseConfig

Rows = Annotated[int, Field(gt=0, le=2**31)]  # ids and rows are 32-bit
Width = Annotated[int, Field(gt=0, le=2**20)]

# Steps: id → row. -1 means no row, and stays -1 in every later step.


class Modulo(BaseConfig):
    """x mod `divisor`."""

    step: Literal["modulo"] = "modulo"
    divisor: Rows


class FloorDivide(BaseConfig):
    """⌊x / `divisor`⌋, by integer division."""

    step: Literal["floor_divide"] = "floor_divide"
    divisor: Rows


class Hash(BaseConfig):
    """(h >> 1) mod `num_rows`, where h is the salted 64-bit hash of x.

    h = x + (salt + 1) · 0x9E3779B97F4A7C15, then (h ^ h >> 30) · 0xBF58476D1CE4E5B9, then
    (h ^ h >> 27) · 0x94D049BB133111EB, then h ^ h >> 31; all modulo 2⁶⁴, shifts fill with zeros.
    `salt` is hexadecimal, because JSON readers round large numbers. `test_vectors`: pairs (x, row).
    """

    step: Literal["hash"] = "hash"
    version: Literal[1] = 1
    salt: str = Field(pattern="^0x[0-9a-f]{16}$")
    num_rows: Rows
    test_vectors: tuple[tuple[NonNegativeInt, NonNegativeInt], ...] = ()


class Band(BaseConfig):
    """x - `first` if `first` ≤ x < `end`, else -1."""

    step: Literal["band"] = "band"
    first: NonNegativeInt
    end: NonNegativeInt


class Remap(BaseConfig):
    """Entry x of the integer tensor `rows`."""

    step: Literal["remap"] = "remap"
    rows: str


Step = Annotated[Modulo | FloorDivide | Hash | Band | Remap, Field(discriminator="step")]


class TableLookup(BaseConfig):
    """Id → row by `steps` in order (none: the id itself) → that row of `table`.

    If there is no row (-1), it is `missing_row` or, without one, a vector of zeros.
    """

    table: str
    steps: tuple[Step, ...] = ()
    missing_row: NonNegativeInt | None = None


# Vectors, (L, d) for L ids.


class LookedUp(BaseConfig):
    """The rows of lookup number `index`."""

    operation: Literal["looked_up"] = "looked_up"
    index: NonNegativeInt


class Sum(BaseConfig):
    """v_1 + v_2 + …, entry by entry."""

    operation: Literal["sum"] = "sum"
    of: "tuple[Vector, ...]" = Field(min_length=1)


class Product(BaseConfig):
    """v_1 ⊙ v_2 ⊙ …, entry by entry."""

    operation: Literal["product"] = "product"
    of: "tuple[Vector, ...]" = Field(min_length=1)


class Concat(BaseConfig):
    """v_1 ‖ v_2 ‖ …, side by side."""

    operation: Literal["concat"] = "concat"
    of: "tuple[Vector, ...]" = Field(min_length=1)


class Linear(BaseConfig):
    """V · M, where the tensor `matrix` is (d, D)."""

    operation: Literal["linear"] = "linear"
    of: "Vector"
    matrix: str


class LinearByRow(BaseConfig):
    """V · M + b, with M and b looked up for each id.

    `weights`, (L, (d + 1) · D), are the d rows of M one after the other, then b.
    """

    operation: Literal["linear_by_row"] = "linear_by_row"
    of: "Vector"
    weights: "Vector"


class Relu(BaseConfig):
    """max(v, 0), entry by entry."""

    operation: Literal["relu"] = "relu"
    of: "Vector"


class Mask(BaseConfig):
    """Entry by entry times the tensor `by`, (d,)."""

    operation: Literal["mask"] = "mask"
    of: "Vector"
    by: str


class Pad(BaseConfig):
    """`dim` entries: entry k of v is entry `columns`[k] (without columns: k), the others are 0."""

    operation: Literal["pad"] = "pad"
    of: "Vector"
    dim: Width
    columns: tuple[NonNegativeInt, ...] | None = None


Vector = Annotated[
    LookedUp | Sum | Product | Concat | Linear | LinearByRow | Relu | Mask | Pad,
    Field(discriminator="operation"),
]


class Rule(BaseConfig):
    """How an id becomes a vector; it names the tables, which rules may share, and the tensors."""

    version: Literal[1] = 1
    lookups: tuple[TableLookup, ...] = Field(min_length=1)
    vector: Vector

    @model_validator(mode="after")
    def _lookups_exist(self) -> Self:
        for vector in _walk(self.vector):
            if isinstance(vector, LookedUp) and vector.index >= len(self.lookups):
                raise ValueError(f"lookups 0 to {len(self.lookups) - 1}, not {vector.index}")
        return self

    def tensors(self) -> set[str]:
        """The names of the tensors that it needs in addition to its tables."""
        remaps = {s.rows for k in self.lookups for s in k.steps if isinstance(s, Remap)}
        matrices = {v.matrix for v in _walk(self.vector) if isinstance(v, Linear)}
        masks = {v.by for v in _walk(self.vector) if isinstance(v, Mask)}
        return remaps | matrices | masks


def looked_up(count: int) -> tuple[LookedUp, ...]:
    """The rows of the first `count` lookups."""
    return tuple(LookedUp(index=index) for index in range(count))


def identity(table: str) -> Rule:
    """Row i of the table is the vector of id i.

    >>> identity("C1").model_dump(exclude_none=True, exclude_defaults=True)
    {'lookups': ({'table': 'C1'},), 'vector': {'index': 0}}
    """
    return Rule(lookups=(TableLookup(table=table),), vector=LookedUp(index=0))


def _walk(vector: Vector) -> Iterator[Vector]:
    """A vector and all its parts."""
    yield vector
    if isinstance(vector, Sum | Product | Concat):
        for part in vector.of:
            yield from _walk(part)
    elif not isinstance(vector, LookedUp):
        yield from _walk(vector.of)
        if isinstance(vector, LinearByRow):
            yield from _walk(vector.weights)
