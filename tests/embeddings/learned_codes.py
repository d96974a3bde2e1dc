"""A toy pair: a full table that is trained, and the product quantization that replaces it.

Jégou et al. 2011, §II: the columns are cut into subspaces, a vector is replaced by the nearest of
k centroids in each of them, and an id stores the numbers of its centroids, its codes.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from pydantic import PositiveInt
from torch import Tensor

from recsys.embeddings.methods.base import (
    BaseMethodConfig,
    EmbeddingMethod,
    Finalized,
    FittedMethodConfig,
)
from recsys.embeddings.methods.full_table import FullTable
from recsys.embeddings.table_spec import Lookup, TableSpec, TensorInit
from recsys.lookup_spec import Concat, Remap, Rule, TableLookup, looked_up


class CompressedLaterConfig(BaseMethodConfig):
    """A full table that `finalize` turns into product quantization."""

    method: Literal["compressed_later"] = "compressed_later"
    num_subspaces: PositiveInt = 2
    num_codes: PositiveInt = 8

    def build(self, feature: str, cardinality: int, table: str) -> "CompressedLater":
        return CompressedLater(self, feature, cardinality, table)


class CompressedLater(FullTable):
    name = "compressed_later"

    def __init__(
        self, config: CompressedLaterConfig, feature: str, cardinality: int, table: str
    ) -> None:
        super().__init__(feature, cardinality, config.embedding_dim, table, config.init)
        self.config = config

    def finalize(self, weights: Mapping[str, Tensor]) -> Finalized:
        dim = self.output_dim // self.config.num_subspaces
        artifacts = {}
        for j, part in enumerate(weights[self.table.name].split(dim, dim=1)):
            artifacts[f"codebook_{j}"], codes = k_means(part, self.config.num_codes)
            artifacts[f"codes_{j}"] = codes.to(torch.uint8)
        options = self.config.model_dump(exclude={"method"})
        return Finalized(ProductQuantizationConfig.model_validate(options), artifacts)


def k_means(points: Tensor, k: int, steps: int = 10) -> tuple[Tensor, Tensor]:
    """Points (n, d) → centroids (k, d), the first k points moved, and each point's (n,)."""
    centroids = points[:k].clone()
    for _ in range(steps):
        nearest = torch.cdist(points, centroids).argmin(1)
        for j in nearest.unique():
            centroids[j] = points[nearest == j].mean(0)
    return centroids, torch.cdist(points, centroids).argmin(1)


class ProductQuantizationConfig(FittedMethodConfig):
    """Fitted codes and codebooks; without artifacts, codes by remainder and drawn codebooks."""

    method: Literal["product_quantization"] = "product_quantization"
    num_subspaces: PositiveInt = 2
    num_codes: PositiveInt = 8

    def build_fitted(
        self, feature: str, cardinality: int, table: str, tensors: Mapping[str, Tensor]
    ) -> "ProductQuantization":
        dim, tables, codes = self.embedding_dim // self.num_subspaces, [], []
        for j in range(self.num_subspaces):
            fitted = tensors.get(f"codebook_{j}")
            init = self.init if fitted is None else TensorInit(fitted)
            tables.append(TableSpec(f"{table}/{j}", self.num_codes, dim, init))
            plain = (torch.arange(cardinality) // (j + 1)) % self.num_codes
            codes.append(tensors.get(f"codes_{j}", plain.to(torch.uint8)))
        return ProductQuantization(feature, tuple(tables), codes)


class ProductQuantization(EmbeddingMethod):
    """The vector of id i is codebook_0[codes_0[i]] ‖ codebook_1[codes_1[i]] …"""

    name = "product_quantization"

    def __init__(
        self, feature: str, tables: tuple[TableSpec, ...], codes: Sequence[Tensor]
    ) -> None:
        super().__init__()
        self._tables, self.cardinality = tables, len(codes[0])
        self.output_dim = sum(table.dim for table in tables)
        self.lookups = tuple(Lookup(f"{feature}/{j}", t.name) for j, t in enumerate(tables))
        for j, each in enumerate(codes):
            self.add_artifact(f"codes_{j}", each, "rows")

    def tables(self) -> tuple[TableSpec, ...]:
        return self._tables

    def rows(self, ids: Tensor) -> tuple[Tensor, ...]:
        at = ids.long().cpu()
        return tuple(self.get_buffer(f"codes_{j}")[at].long() for j in range(len(self._tables)))

    def combine(self, vectors: Sequence[Tensor]) -> Tensor:
        return torch.cat(tuple(vectors), dim=1)

    def rule(self) -> Rule:
        lookups = tuple(
            TableLookup(table=table.name, steps=(Remap(rows=f"codes_{j}"),))
            for j, table in enumerate(self._tables)
        )
        return Rule(lookups=lookups, vector=Concat(of=looked_up(len(lookups))))
