"""The method that docs/add_a_method.md shows keeps the contract of all methods."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, get_args

import pytest
from pydantic import Field, PositiveInt
from torch import Tensor

from recsys.embeddings.config import EmbeddingsConfig
from recsys.embeddings.id_mapping.hashing import hash_rows
from recsys.embeddings.methods import MethodConfig
from recsys.embeddings.methods.base import BaseMethodConfig, EmbeddingMethod
from recsys.embeddings.table_spec import Lookup, NormalInit, TableSpec
from tests.embeddings import test_contract
from tests.embeddings.contract_cases import contract_cases
from tests.embeddings.examples import DIM

PAGE = Path(__file__).parents[2] / "docs" / "add_a_method.md"


# shown in the documentation: begin
class WeightedHashConfig(BaseMethodConfig):
    """A hashed row, scaled by 1 + a learned weight of each id."""

    method: Literal["weighted_hash"] = "weighted_hash"
    num_buckets: PositiveInt

    def build(self, feature: str, cardinality: int, table: str) -> "WeightedHash":
        shared = TableSpec(table, self.num_buckets, self.embedding_dim, self.init)
        weights = TableSpec(f"{table}/weight", cardinality, 1, NormalInit(std=0.01))
        return WeightedHash(feature, (shared, weights))


class WeightedHash(EmbeddingMethod):
    name = "weighted_hash"
    commutes_with_sum = False  # Σ (w · v) is not Σ w · Σ v

    def __init__(self, feature: str, tables: tuple[TableSpec, TableSpec]) -> None:
        super().__init__()
        self._tables, self.output_dim, self.cardinality = tables, tables[0].dim, tables[1].num_rows
        self.lookups = tuple(Lookup(f"{feature}/{j}", t.name) for j, t in enumerate(tables))

    def tables(self) -> tuple[TableSpec, ...]:
        return self._tables

    def rows(self, ids: Tensor) -> tuple[Tensor, ...]:
        return hash_rows(ids, salt=0, num_rows=self._tables[0].num_rows), ids

    def combine(self, vectors: Sequence[Tensor]) -> Tensor:
        return vectors[0] * (1 + vectors[1])


# shown in the documentation: end


class ListWithToy(EmbeddingsConfig):
    """The embeddings section as it is once the one list names the method."""

    default: Annotated[
        get_args(MethodConfig)[0] | WeightedHashConfig,  # type: ignore[valid-type]
        Field(discriminator="method"),
    ]


@pytest.mark.parametrize(("promise", "arguments"), contract_cases())
def test_the_toy_method_keeps_every_promise(promise, arguments, monkeypatch):
    monkeypatch.setattr(test_contract, "EmbeddingsConfig", ListWithToy)
    promise(method=WeightedHashConfig(embedding_dim=DIM, num_buckets=20), **arguments)


def test_the_documentation_shows_this_method():
    source = Path(__file__).read_text()
    _, shown, _ = source.split("# shown in the documentation:", maxsplit=2)
    assert shown.removeprefix(" begin\n").removesuffix("# ").strip() in PAGE.read_text()


def test_the_methods_own_name_is_enough_in_yaml():
    content = {"default": {"method": "weighted_hash", "embedding_dim": 4, "num_buckets": 3}}
    assert isinstance(ListWithToy.model_validate(content).default, WeightedHashConfig)
