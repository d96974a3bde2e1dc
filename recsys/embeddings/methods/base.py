"""The three-part contract of every embedding method: rows, tables, combine.

    rows(ids)      logical ids (L,) → row numbers (L,), int32 or int64, for each lookup; no weights
    tables()       the physical tables it needs; equal names are shared storage
    combine(...)   looked-up vectors [(L, d_j) …] → (L, D)

Methods own no table: a store does (`tables/`), so that all methods share one fused lookup, one
sharding plan and one export. What a method fits beside rows (kept ids, codes) are its artifacts.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple, Self

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from recsys.config.base import BaseConfig
from recsys.embeddings.artifacts import Artifacts
from recsys.embeddings.table_spec import Init, Lookup, NormalInit, TableSpec
from recsys.lookup_spec import Rule

# Role → how names of tables say it. Initial weights, checkpoints and exports depend on the names.
ROLE_NAMES = {"search": "attention"}


class EmbeddingKey(NamedTuple):
    """One embedding: the feature whose ids it takes, and its role.

    A feature's own embedding has the role "". A model may ask for others of the same ids, such as
    vectors that only a search compares, in a role of its own.
    """

    feature: str
    role: str = ""

    @property
    def name(self) -> str:
        """As tables, files and reports call it; nothing parses it back."""
        if not self.role:
            return self.feature
        return f"{self.feature}@{ROLE_NAMES.get(self.role, self.role)}"


class BaseMethodConfig(BaseConfig, ABC):
    """What every method's config has."""

    embedding_dim: PositiveInt  # width of the vectors (D), floats
    # initial values of a plain table; methods scale them to the same variance
    init: Init = NormalInit()

    def resolve(self, cardinalities: Mapping[str, int]) -> "Mapping[str, BaseMethodConfig]":
        """The config of each feature that has this one; for methods that share a budget.

        `cardinalities`: ids by feature, for all features that were given this very config.
        """
        return dict.fromkeys(cardinalities, self)

    @abstractmethod
    def build(self, feature: str, cardinality: int, table: str) -> "EmbeddingMethod":
        """The method for one feature; `table` is the name under which its storage may be shared."""


class FittedMethodConfig(BaseMethodConfig, ABC):
    """The config of a method that reads tensors which were fitted before it is trained."""

    artifacts: Artifacts | None = None
    """tensors of the method that were fitted to this feature; a search writes them"""

    def build(self, feature: str, cardinality: int, table: str) -> "EmbeddingMethod":
        tensors = {} if self.artifacts is None else self.artifacts.load(table)
        return self.build_fitted(feature, cardinality, table, tensors)

    @abstractmethod
    def build_fitted(
        self, feature: str, cardinality: int, table: str, tensors: Mapping[str, Tensor]
    ) -> "EmbeddingMethod":
        """As `build`, with the tensors of `artifacts` by name."""


class Finalized(NamedTuple):
    """The method that replaces a trained one: its config, and its artifacts by name."""

    config: BaseMethodConfig
    artifacts: dict[str, Tensor]

    def build(self, feature: str, cardinality: int, table: str) -> "EmbeddingMethod":
        if isinstance(self.config, FittedMethodConfig):
            return self.config.build_fitted(feature, cardinality, table, self.artifacts)
        return self.config.build(feature, cardinality, table)


class EmbeddingMethod(nn.Module, ABC):
    """How one feature's ids become vectors of width `output_dim`."""

    name: str
    lookups: tuple[Lookup, ...]
    output_dim: int
    cardinality: int
    # True when combine(Σ v) = Σ combine(v), so that bags may be pooled by the fused lookup itself.
    commutes_with_sum: bool = True

    def __init__(self) -> None:
        super().__init__()
        self._read_by_rows: list[str] = []

    def add_artifact(
        self,
        name: str,
        tensor: Tensor,
        read_by: Literal["rows", "combine"],
        *,
        is_saved: bool = True,
    ) -> None:
        """Makes a tensor a part of the method; `rule` may name it, and exports then hold it.

        Every process has a whole copy. A tensor that is to be sharded, or trained by the optimizer
        of the tables, is a table with a `TensorInit`.

        Args:
            name: its name in checkpoints, exports and rules.
            tensor: on the CPU.
            read_by: `rows`: it stays on the CPU, where batches are made, whatever the device of the
                model. `combine`: it is on that device.
            is_saved: in checkpoints; not needed for what follows from the config.
        """
        self.register_buffer(name, tensor, persistent=is_saved)
        if read_by == "rows":
            self._read_by_rows.append(name)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Moves everything but what `rows` reads."""
        stay = {name: self._buffers[name] for name in self._read_by_rows}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # torch's is untyped
        self._buffers.update(stay)
        return self

    @abstractmethod
    def tables(self) -> tuple[TableSpec, ...]:
        """The physical tables it reads."""

    @abstractmethod
    def rows(self, ids: Tensor) -> tuple[Tensor, ...]:
        """Logical ids (L,) → row numbers (L,), int32 or int64, one tensor for each lookup."""

    @abstractmethod
    def combine(self, vectors: Sequence[Tensor]) -> Tensor:
        """Looked-up vectors, (L, d_j) for each lookup → (L, D)."""

    def rule(self) -> Rule | None:
        """The method in primitives that an export's reader knows; its tensors are our own names.

        Without one the method can only be exported as a plain table.
        """
        return None

    def finalize(self, weights: Mapping[str, Tensor]) -> Finalized:
        """The method to serve instead of this one, for a supernet or a table to be compressed.

        Args:
            weights: the trained tables, (num_rows, dim) by name, on the CPU.

        Raises:
            TypeError: the method is served as it is trained.
        """
        raise TypeError(f"{self.name} is served as it is trained")

    @property
    def is_plain_table(self) -> bool:
        """True when the vector of id i is row i of its only table: nothing to compute."""
        return False

    def materialize(self, weights: Mapping[str, Tensor]) -> Tensor:
        """The method as a plain (cardinality, D) table: row i is the vector of id i."""
        ids = torch.arange(self.cardinality)
        vectors = [
            weights[lookup.table][rows]
            for lookup, rows in zip(self.lookups, self.rows(ids), strict=True)
        ]
        return self.combine(vectors)
