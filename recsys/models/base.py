"""What every model is: (B, ΣD) vectors and (B, N) raw numericals → logits (B,)."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

from torch import nn

from recsys.base_config import BaseConfig
from recsys.errors import RecsysError


class Field(NamedTuple):
    """One feature as a model sees it: `dim` columns of its input."""

    name: str
    dim: int


class BaseModelConfig(BaseConfig, ABC):
    """A model's choices. `build` returns an nn.Module with forward(vectors, dense) → logits (B,).

    vectors: (B, ΣD), the fields side by side. dense: (B, num_dense) numericals used as raw values.
    """

    @abstractmethod
    def build(self, fields: Sequence[Field], num_dense: int) -> nn.Module:
        """The network for these inputs."""


def common_dim(model: str, fields: Sequence[Field]) -> int:
    """The one width of all fields, for models that need it."""
    widths = {field.dim for field in fields}
    if len(widths) != 1:
        first = fields[0]
        other = next(field for field in fields if field.dim != first.dim)
        raise RecsysError(
            f"{model} needs vectors of one width",
            where="embeddings",
            expected=f"embedding_dim {first.dim} for every feature, as {first.name} has",
            got=f"{other.name} has {other.dim}",
            fix="give all features one embedding_dim, or use a model that concatenates (dcn_v2)",
        )
    return widths.pop()
