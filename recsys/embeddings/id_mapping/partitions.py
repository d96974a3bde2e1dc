"""Complementary partitions of the ids 0 … V - 1: no two ids are in equal classes everywhere.

Shi et al. 2020, §3: quotient-remainder, its k-way generalisation (mixed radix), and remainders by
pairwise coprime sizes (Chinese remainder theorem). Integer floor division throughout: a float
quotient is wrong from id 2²⁴ on.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Annotated, Literal, NamedTuple, Self

import numpy as np
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor

from recsys.config.base import BaseConfig
from recsys.errors import RecsysError
from recsys.lookup_spec import FloorDivide, Modulo, Step

Size = Annotated[int, Field(ge=2)]


class Partition(NamedTuple):
    """Id i is in class (i div `divisor`) mod `size`."""

    size: int
    divisor: int

    def classes(self, ids: Tensor) -> Tensor:
        """Ids (L,) → classes (L,) int64."""
        return ids.long() // self.divisor % self.size

    def steps(self) -> tuple[Step, ...]:
        """The same as steps of a rule."""
        remainder = Modulo(divisor=self.size)
        return (remainder,) if self.divisor == 1 else (FloorDivide(divisor=self.divisor), remainder)


class BasePartitionsConfig(BaseConfig, ABC):
    """What every rule of partitioning has."""

    def resolve(
        self, cardinalities: Mapping[str, int]
    ) -> "Mapping[str, BasePartitionsConfig | None]":
        """The rule of each feature; None where it saves no row. For rules that share a budget."""
        return dict.fromkeys(cardinalities, self)

    @abstractmethod
    def partitions(self, feature: str, cardinality: int) -> tuple[Partition, ...]:
        """The partitions of a feature's ids; refuses those that cannot tell two ids apart."""


class QuotientRemainder(BasePartitionsConfig):
    """i div m and i mod m: ⌈V/m⌉ + m rows. One of the three keys gives m."""

    kind: Literal["quotient_remainder"] = "quotient_remainder"
    num_remainders: PositiveInt | None = None  # m itself (DLRM's --qr-collisions)
    num_collisions: Size | None = None  # ids that share a row of remainders: m = ⌈V/c⌉
    # rows of all features of this config ÷ their ids: the smallest m, the same for all, that keeps
    # Σ min(V_f, ⌈V_f/m⌉ + m) within it; features that it does not make smaller stay full
    row_share: float | None = Field(default=None, gt=0, lt=1)

    @model_validator(mode="after")
    def _one_choice(self) -> Self:
        given = (self.num_remainders, self.num_collisions, self.row_share)
        if sum(value is not None for value in given) != 1:
            raise ValueError("one of num_remainders, num_collisions and row_share")
        return self

    def resolve(self, cardinalities: Mapping[str, int]) -> Mapping[str, "QuotientRemainder | None"]:
        if self.row_share is None or not cardinalities:
            return dict.fromkeys(cardinalities, self)
        m = least_remainders(cardinalities, self.row_share)
        rule = QuotientRemainder(num_remainders=m)
        return {
            feature: rule if -(-cardinality // m) + m < cardinality else None
            for feature, cardinality in cardinalities.items()
        }

    def partitions(self, feature: str, cardinality: int) -> tuple[Partition, ...]:
        m = self.num_remainders
        if self.num_collisions is not None:
            m = -(-cardinality // self.num_collisions)
        if self.row_share is not None:
            m = least_remainders({feature: cardinality}, self.row_share)
        assert m is not None  # the config has one of the three
        return Partition(-(-cardinality // m), m), Partition(m, 1)


def least_remainders(cardinalities: Mapping[str, int], row_share: float) -> int:
    """The least m with Σ min(V_f, ⌈V_f/m⌉ + m) ≤ row_share · Σ V_f."""
    ids = np.array(list(cardinalities.values()))
    candidates = np.arange(1, math.isqrt(int(ids.max())) + 2)
    rows = sum(np.minimum(v, -(-v // candidates) + candidates) for v in ids)
    fitting = np.flatnonzero(rows <= row_share * ids.sum())
    if not len(fitting):
        raise RecsysError(
            "quotient-remainder cannot have so few rows",
            where=", ".join(cardinalities),
            expected=f"a row_share of at least {math.ceil(rows.min() / ids.sum() * 1e6) / 1e6}",
            got=row_share,
            fix="raise row_share, or use mixed_radix, which has fewer rows",
        )
    return int(candidates[fitting[0]])


class _ByRadices(BasePartitionsConfig):
    """`sizes`, or their number `k`."""

    # the number of classes of each partition; either this or k
    sizes: tuple[Size, ...] | None = Field(default=None, min_length=2)
    k: Size | None = None  # the number of partitions, with sizes near V^(1/k)

    @model_validator(mode="after")
    def _one_choice(self) -> Self:
        if (self.sizes is None) == (self.k is None):
            raise ValueError("either sizes or k, their number")
        return self


class MixedRadix(_ByRadices):
    """The digits of i in the radices m_1, m_2 …: class j is (i div (m_1 … m_{j-1})) mod m_j."""

    kind: Literal["mixed_radix"] = "mixed_radix"

    def partitions(self, feature: str, cardinality: int) -> tuple[Partition, ...]:
        sizes = self.sizes or _least_radices(cardinality, self.k or 0)
        told_apart = math.prod(sizes)
        if told_apart < cardinality:
            raise _cannot_tell_apart(feature, cardinality, sizes, told_apart)
        return tuple(Partition(m, math.prod(sizes[:j])) for j, m in enumerate(sizes))


class ChineseRemainder(_ByRadices):
    """The remainders i mod m_j, which tell lcm(m_1, m_2 …) ids apart: all, when coprime."""

    kind: Literal["chinese_remainder"] = "chinese_remainder"

    def partitions(self, feature: str, cardinality: int) -> tuple[Partition, ...]:
        sizes = self.sizes or _least_coprimes(cardinality, self.k or 0)
        told_apart = math.lcm(*sizes)
        if told_apart < cardinality:
            raise _cannot_tell_apart(feature, cardinality, sizes, told_apart)
        return tuple(Partition(m, 1) for m in sizes)


PartitionsConfig = Annotated[
    QuotientRemainder | MixedRadix | ChineseRemainder, Field(discriminator="kind")
]


def _cannot_tell_apart(
    feature: str, cardinality: int, sizes: tuple[int, ...], period: int
) -> RecsysError:
    is_coprime = math.prod(sizes) == period
    reason = "their product is too small" if is_coprime else "they are not pairwise coprime"
    return RecsysError(
        f"{feature}: the partitions cannot tell ids 0 and {period} apart: {reason}",
        expected=f"sizes that tell {cardinality} ids apart",
        got=f"{list(sizes)}, which tell {period} apart",
        fix="choose other sizes, or give k and let them be found",
    )


def _root(value: int, k: int) -> int:
    """The least integer whose k-th power is at least `value`."""
    root = max(1, round(value ** (1.0 / k)))
    while root**k < value:
        root += 1
    while root > 1 and (root - 1) ** k >= value:
        root -= 1
    return root


def _least_radices(cardinality: int, k: int) -> tuple[int, ...]:
    """K near-equal radices, none larger than it must be, with a product of V at least."""
    sizes, rest = [], cardinality
    for left in range(k, 0, -1):
        sizes.append(_root(rest, left))
        rest = -(-rest // sizes[-1])
    return tuple(sizes)


def _least_coprimes(cardinality: int, k: int) -> tuple[int, ...]:
    """The first k pairwise coprime numbers from V^(1/k) up."""
    sizes: list[int] = []
    candidate = max(2, _root(cardinality, k))
    while len(sizes) < k:
        if all(math.gcd(candidate, size) == 1 for size in sizes):
            sizes.append(candidate)
        candidate += 1
    return tuple(sizes)
