"""Base classes of models: (B, ΣD) vectors and (B, N) raw numericals → logits (B,)."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal, NamedTuple, Protocol, Self, runtime_checkable

from pydantic import Field as PydanticField
from pydantic import PositiveInt, model_validator
from torch import Tensor, nn

from recsys.config.base import BaseConfig
from recsys.errors import RecsysError
from recsys.history_pair import HistoryPair
from recsys.layers.history import History

# the role of embeddings that a search compares, in models that compare others than they sum
SEARCH_ROLE = "search"


class Field(NamedTuple):
    """One feature of a model's input: `dim` columns."""

    name: str
    dim: int


class BaseModelConfig(BaseConfig, ABC):
    """A model's choices. `build` returns an nn.Module with forward(vectors, dense) → logits (B,).

    vectors: (B, ΣD), the fields side by side. dense: (B, num_dense) numericals used as raw values.
    """

    @abstractmethod
    def build(self, fields: Sequence[Field], num_dense: int) -> nn.Module:
        """The network for these inputs."""


class EqualWidthModelConfig(BaseModelConfig, ABC):
    """A model whose features must have one width; the network converts other widths."""

    name: str
    # refuse; project: a matrix without bias for each feature of another width, counted as memory of
    # the feature; pad: zeros up to field_dim
    mixed_widths: Literal["refuse", "project", "pad"] = "refuse"
    field_dim: PositiveInt | None = None  # the width; null: the largest

    @model_validator(mode="after")
    def _field_dim_is_used(self) -> Self:
        if self.field_dim is not None and self.mixed_widths == "refuse":
            raise ValueError("field_dim with mixed_widths project or pad, and not with refuse")
        return self

    def common_dim(self, fields: Sequence[Field]) -> int:
        """The width of the model's fields; refuses fields that cannot be brought to it."""
        if self.mixed_widths == "refuse":
            self._refuse_mixed(fields)
        if self.field_dim is None:
            return max(field.dim for field in fields)
        too_wide = next((field for field in fields if field.dim > self.field_dim), None)
        if too_wide is not None and self.mixed_widths == "pad":
            raise RecsysError(
                f"{too_wide.name} is wider than model.field_dim",
                where="model.field_dim",
                expected=f"at least {too_wide.dim}",
                got=self.field_dim,
                fix="raise field_dim, drop it, or set model.mixed_widths: project",
            )
        return self.field_dim

    def _refuse_mixed(self, fields: Sequence[Field]) -> None:
        first = fields[0]
        other = next((field for field in fields if field.dim != first.dim), None)
        if other is not None:
            raise RecsysError(
                f"{self.name} needs vectors of one width",
                where="embeddings",
                expected=f"embedding_dim {first.dim} for every feature, as {first.name} has",
                got=f"{other.name} has {other.dim}",
                fix="set model.mixed_widths: project (a matrix for each feature that differs) or "
                "pad (zeros), give all features one embedding_dim, or use a model that "
                "concatenates (dcn_v2)",
            )


class HistoryShape(NamedTuple):
    """The shape of one pair of target and history.

    dim: D, width of a target's and a behavior's vector. attention_dim: A, width of the vectors that
    attention compares; D unless `embeddings.roles.search` gives it embeddings of its own.
    target_dims and attention_dims: the same, feature by feature. max_length: no history is longer,
    None if the dataset does not say.
    """

    target_dims: tuple[int, ...]
    attention_dims: tuple[int, ...]
    max_length: int | None

    @property
    def dim(self) -> int:
        return sum(self.target_dims)

    @property
    def attention_dim(self) -> int:
        return sum(self.attention_dims)


class SequenceModelConfig(BaseConfig, ABC):
    """A model of histories. `build` returns forward(vectors, dense, *histories) → logits (B,).

    vectors: (B, ΣD), all fields but the histories. dense: as for other models. histories: a
    `recsys.layers.history.History` for each pair. `attention` says whether
    attention's own embeddings (`embeddings.roles.search`) must be there or must not.
    """

    attention: ClassVar[Literal["required", "refused"]] = "refused"
    name: str
    # targets and their histories; each pair has its own attention
    pairs: Annotated[tuple[HistoryPair, ...], PydanticField(min_length=1)]

    @abstractmethod
    def build(
        self, fields: Sequence[Field], num_dense: int, histories: Sequence[HistoryShape]
    ) -> nn.Module:
        """The network for these inputs; `fields` are the columns of `vectors`."""


@runtime_checkable
class HasAuxiliaryHead(Protocol):
    """A model with a second head, which adds a weighted loss in training and never scores."""

    auxiliary_weight: float

    def forward_with_auxiliary(
        self, vectors: Tensor, dense: Tensor, *histories: History
    ) -> tuple[Tensor, Tensor]:
        """As `forward`, but returns the logits (B,) of both heads."""


def pairs_of(model: BaseModelConfig | SequenceModelConfig) -> tuple[HistoryPair, ...]:
    """The pairs of a model of histories; none for other models."""
    return model.pairs if isinstance(model, SequenceModelConfig) else ()
