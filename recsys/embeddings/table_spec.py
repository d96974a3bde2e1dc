"""Physical tables: their sizes, initial values, and the lookups that read them."""

from typing import Annotated, Literal, NamedTuple

import torch
from pydantic import Field, PositiveFloat
from torch import Tensor

from recsys.config.base import BaseConfig


class NormalInit(BaseConfig):
    """Rows drawn from N(0, std²)."""

    distribution: Literal["normal"] = "normal"
    std: PositiveFloat = 0.01  # standard deviation

    def fill_(self, weight: Tensor, generator: torch.Generator) -> None:
        weight.normal_(0.0, self.std, generator=generator)

    def scaled(self, factor: float) -> "NormalInit":
        return NormalInit(std=self.std * factor)


class UniformInit(BaseConfig):
    """Rows drawn from U(-bound, bound)."""

    distribution: Literal["uniform"] = "uniform"
    bound: PositiveFloat  # largest absolute value

    def fill_(self, weight: Tensor, generator: torch.Generator) -> None:
        weight.uniform_(-self.bound, self.bound, generator=generator)

    def scaled(self, factor: float) -> "UniformInit":
        return UniformInit(bound=self.bound * factor)


Init = Annotated[NormalInit | UniformInit, Field(discriminator="distribution")]


class TableSpec(NamedTuple):
    """A physical table of `num_rows` × `dim` float32."""

    name: str
    num_rows: int
    dim: int
    init: "NormalInit | UniformInit | RowsOf | TensorInit"


class TensorInit(NamedTuple):
    """Rows that start as given, such as a codebook that was fitted; values: (num_rows, dim)."""

    values: Tensor


class RowsOf(NamedTuple):
    """Rows that start as those of another table would: its row numbers, -1 for zeros, and columns.

    rows: (num_rows,) int64, ascending but for -1. columns: (dim,) int64. The other table need not
    exist.
    """

    source: TableSpec
    rows: Tensor
    columns: Tensor


class Lookup(NamedTuple):
    """One key under which row numbers are looked up, and the table that they belong to."""

    key: str
    table: str
