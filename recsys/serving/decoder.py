"""The reference decoder: a rule and its small tables → vectors, with numpy alone.

It shares no code with recsys.embeddings on purpose: an export is right if the two agree.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property, reduce

import numpy as np
from numpy.typing import NDArray

from recsys.errors import RecsysError
from recsys.lookup_spec import (
    Band,
    Concat,
    FloorDivide,
    Hash,
    Linear,
    LinearByRow,
    LookedUp,
    Mask,
    Modulo,
    Pad,
    Product,
    Relu,
    Remap,
    Rule,
    Step,
    Sum,
    TableLookup,
    Vector,
)

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]
Array = NDArray[np.generic]
GOLDEN = 0x9E3779B97F4A7C15
# Together they bound the memory of rules whose rows are far wider than their vector.
IDS_AT_ONCE, FLOATS_AT_ONCE = 1 << 14, 1 << 26


class Decoder:
    """The vectors of one embedding from its rule and tables."""

    def __init__(
        self, rule: Rule, tables: Mapping[str, Floats], tensors: Mapping[str, Array], where: object
    ) -> None:
        """Refuses a rule whose tables or tensors are missing; `where` is for messages."""
        self.rule, self.tables, self.tensors, self.where = rule, tables, tensors, where
        missing = {lookup.table for lookup in rule.lookups} - set(tables)
        missing |= rule.tensors() - set(tensors)
        if missing:
            raise RecsysError(
                "the rule names missing tables or tensors",
                where=where,
                got=", ".join(sorted(missing)),
            )
        for step in (step for lookup in rule.lookups for step in lookup.steps):
            if isinstance(step, Hash):
                self._check_hash(step)

    def vectors(self, ids: Ids) -> Floats:
        """Ids (L,) → (L, D)."""
        try:
            size = max(1, min(IDS_AT_ONCE, FLOATS_AT_ONCE // self._floats_per_id))
            blocks = [ids[start : start + size] for start in range(0, len(ids), size)]
            return np.concatenate([self._decode(block) for block in blocks or [ids]])
        except (ValueError, IndexError, TypeError) as error:
            raise RecsysError(
                "the rule does not fit its tables", where=self.where, got=error
            ) from None

    @cached_property
    def _floats_per_id(self) -> int:
        """The floats that decoding one id takes; refuses a rule that takes too many."""
        floats = sum(self._widths(self.rule.vector)) + sum(
            self.tables[lookup.table].shape[1] for lookup in self.rule.lookups
        )
        if floats > FLOATS_AT_ONCE:
            raise RecsysError(
                "the rule is too wide",
                where=self.where,
                expected=f"at most {FLOATS_AT_ONCE:,} floats for one id",
                got=f"{floats:,}",
            )
        return max(1, floats)

    def _widths(self, vector: Vector) -> list[int]:
        """Width of a vector (first) and of all its parts."""
        if isinstance(vector, LookedUp):
            return [self.tables[self.rule.lookups[vector.index].table].shape[1]]
        if isinstance(vector, Sum | Product | Concat):
            parts = [self._widths(part) for part in vector.of]
            firsts = [part[0] for part in parts]
            width = sum(firsts) if isinstance(vector, Concat) else max(firsts)
            return [width, *(w for part in parts for w in part)]
        inner = self._widths(vector.of)
        match vector:
            case Linear(matrix=name):
                return [self.tensors[name].shape[-1], *inner]
            case LinearByRow(weights=weights):
                others = self._widths(weights)
                return [others[0], *inner, *others]
            case Pad(dim=dim):
                return [dim, *inner]
            case _:
                return [inner[0], *inner]

    def rows(self, lookup: TableLookup, ids: Ids) -> Ids:
        """Ids (L,) → rows of the lookup's table (L,); -1: no row."""
        rows = ids
        for step in lookup.steps:
            rows = np.where(rows < 0, -1, self._apply(step, np.maximum(rows, 0)))
        if lookup.missing_row is not None:
            rows = np.where(rows < 0, lookup.missing_row, rows)
        return rows

    def _decode(self, ids: Ids) -> Floats:
        return self._evaluate(self.rule.vector, [self._look_up(k, ids) for k in self.rule.lookups])

    def _look_up(self, lookup: TableLookup, ids: Ids) -> Floats:
        rows = self.rows(lookup, ids)
        found: Floats = self.tables[lookup.table][np.maximum(rows, 0)]
        found[rows < 0] = 0.0
        return found

    def _apply(self, step: Step, x: Ids) -> Ids:
        match step:
            case Modulo(divisor=divisor):
                return x % divisor
            case FloorDivide(divisor=divisor):
                return x // divisor
            case Hash():
                return hash_rows(x, int(step.salt, 16), step.num_rows)
            case Band(first=first, end=end):
                return np.where((x >= first) & (x < end), x - first, -1)
            case Remap(rows=name):
                return self.tensors[name][x].astype(np.int64)

    def _evaluate(self, vector: Vector, found: Sequence[Floats]) -> Floats:
        if isinstance(vector, LookedUp):
            return found[vector.index]
        if isinstance(vector, Sum | Product | Concat):
            return _join(vector, [self._evaluate(part, found) for part in vector.of])
        part = self._evaluate(vector.of, found)
        match vector:
            case Linear(matrix=name):
                return part @ self._floats(name)
            case LinearByRow(weights=weights):
                return _linear_by_row(part, self._evaluate(weights, found))
            case Relu():
                return np.maximum(part, np.float32(0))
            case Mask(by=name):
                return part * self._floats(name)
            case Pad(dim=dim, columns=columns):
                return _pad(part, dim, columns)

    def _floats(self, name: str) -> Floats:
        return self.tensors[name].astype(np.float32)

    def _check_hash(self, step: Hash) -> None:
        for x, row in step.test_vectors:
            got = int(hash_rows(np.array([x]), int(step.salt, 16), step.num_rows)[0])
            if got != row:
                raise RecsysError(
                    "the hash differs from the one that the export was written with",
                    where=self.where,
                    expected=f"{x} → row {row}",
                    got=f"row {got}",
                )


def hash_rows(x: Ids, salt: int, num_rows: int) -> Ids:
    """The salted hash, version 1, of non-negative integers (L,) → rows (L,)."""
    start = np.full(x.shape, (salt + 1) * GOLDEN % 2**64, np.uint64)
    return ((finalize(start + x.astype(np.uint64)) >> np.uint64(1)) % np.uint64(num_rows)).astype(
        np.int64
    )


def _join(vector: Sum | Product | Concat, parts: Sequence[Floats]) -> Floats:
    match vector:
        case Sum():
            return reduce(np.add, parts)
        case Product():
            return reduce(np.multiply, parts)
        case Concat():
            return np.concatenate(parts, axis=1)


def _linear_by_row(inputs: Floats, weights: Floats) -> Floats:
    rows, width = inputs.shape
    matrices = weights.reshape(rows, width + 1, weights.shape[1] // (width + 1))
    product: Floats = (inputs[:, None] @ matrices[:, :width])[:, 0]
    return product + matrices[:, width]


def _pad(part: Floats, dim: int, columns: Sequence[int] | None) -> Floats:
    wide = np.zeros((len(part), dim), np.float32)
    wide[:, list(range(part.shape[1]) if columns is None else columns)] = part
    return wide


def finalize(hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """splitmix64's finalizer: every input bit reaches every output bit."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
        hashes = (hashes ^ (hashes >> np.uint64(shift))) * np.uint64(factor)
    return hashes
