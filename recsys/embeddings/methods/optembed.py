"""optembed: the supernet of OptEmbed (Lyu et al. 2022, CIKM, §3), which `recsys search` trains.

A row is kept if its norm is above the feature's threshold t, which is learned; while training,
each vector is cut to its first d columns with a new random d, so that any choice of dims can be
scored afterwards without more training.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

import torch
from pydantic import model_validator
from torch import Tensor, nn

from recsys.embeddings.methods.base import BaseMethodConfig, EmbeddingMethod, Finalized
from recsys.embeddings.methods.pruned import pruned
from recsys.embeddings.table_spec import Lookup, TableSpec, UniformInit

CHUNK_ROWS = 1 << 20
Variant = Literal["rows_and_dims", "rows", "dims"]


class OptEmbedConfig(BaseMethodConfig):
    """A full table whose rows and columns can be left out."""

    method: Literal["optembed"] = "optembed"
    variant: Variant = "rows_and_dims"  # the paper's OptEmbed, OptEmbed-E (rows), OptEmbed-D (dims)
    norm: Literal[1, 2] = 1  # 1 or 2: norm of the whole row that is compared with the threshold
    # xavier_uniform: as the paper, U(-b, b) with b = √(6 / (V + D)), V ids of all features
    start: Literal["init", "xavier_uniform"] = "init"

    @model_validator(mode="after")
    def _one_start(self) -> Self:
        if self.start == "xavier_uniform" and "init" in self.model_fields_set:
            raise ValueError("either init or start: xavier_uniform, and not both")
        return self

    def resolve(self, cardinalities: Mapping[str, int]) -> "Mapping[str, OptEmbedConfig]":
        if self.start == "init":
            return dict.fromkeys(cardinalities, self)
        bound = math.sqrt(6.0 / (sum(cardinalities.values()) + self.embedding_dim))
        update = {"start": "init", "init": UniformInit(bound=bound)}
        return dict.fromkeys(cardinalities, self.model_copy(update=update))

    def build(self, feature: str, cardinality: int, table: str) -> "OptEmbed":
        spec = TableSpec(table, cardinality, self.embedding_dim, self.init)
        return OptEmbed(feature, spec, self.variant, self.norm)


class OptEmbed(EmbeddingMethod):
    """The vector of id i is 1[‖row i‖ > t] · (the first d columns of row i, then zeros)."""

    name = "optembed"

    def __init__(self, feature: str, table: TableSpec, variant: Variant, norm: int) -> None:
        super().__init__()
        self.cardinality, self.output_dim, self.table = table.num_rows, table.dim, table
        self.lookups = (Lookup(feature, table.name),)
        self.norm = norm
        self.samples_dims = variant != "rows"
        # Cutting columns commutes with a sum, dropping rows does not.
        self.commutes_with_sum = variant == "dims"
        # Trained by a search alone, whose optimizer follows another rule than that of the model.
        self.threshold = (
            None if variant == "dims" else nn.Parameter(torch.zeros(1), requires_grad=False)
        )
        # the columns in use when it scores; while training they are drawn
        self.kept_dims = table.dim

    def tables(self) -> tuple[TableSpec, ...]:
        return (self.table,)

    def rows(self, ids: Tensor) -> tuple[Tensor, ...]:
        return (ids,)

    def combine(self, vectors: Sequence[Tensor]) -> Tensor:
        """(L, D) → (L, D); each of the L vectors gets a number of columns of its own."""
        (rows,) = vectors
        if self.threshold is not None:
            rows = rows * self.row_mask(rows)[:, None]
        if self.training and self.samples_dims:
            last = torch.randint(self.output_dim, (len(rows), 1), device=rows.device)
            return rows * (torch.arange(self.output_dim, device=rows.device) <= last)
        if self.kept_dims < self.output_dim:
            return rows * (torch.arange(self.output_dim, device=rows.device) < self.kept_dims)
        return rows

    def finalize(self, weights: Mapping[str, Tensor]) -> Finalized:
        """Rows above the threshold and the first `kept_dims` columns, as `pruned` (paper, §3.4)."""
        return pruned(self.table, self.kept_rows(weights), dims=self.kept_dims)

    def kept_rows(self, weights: Mapping[str, Tensor]) -> Tensor:
        """(V,) bool: the rows whose norm is above the threshold."""
        if self.threshold is None:
            return torch.ones(self.cardinality, dtype=torch.bool)
        return self.norms(weights) > self.threshold

    def norms(self, weights: Mapping[str, Tensor]) -> Tensor:
        """The norm of each row, (V,), computed in chunks."""
        chunks = torch.split(weights[self.table.name], CHUNK_ROWS)
        return torch.cat([torch.linalg.vector_norm(c, ord=self.norm, dim=1) for c in chunks])

    def row_mask(self, rows: Tensor) -> Tensor:
        """1 for rows (L, D) whose norm is above the threshold, else 0; (L,)."""
        if self.threshold is None:
            return rows.new_ones(len(rows))
        norms = torch.linalg.vector_norm(rows, ord=self.norm, dim=1)
        mask: Tensor = LongTailStep.apply(norms - self.threshold)  # type: ignore[no-untyped-call]  # torch's apply is untyped
        return mask


class LongTailStep(torch.autograd.Function):
    """1[x > 0] with a derivative that reaches beyond the step (paper, equation 6).

    With a = |x|: 2 - 4a up to a = 0.4, 0.4 up to a = 1, 0 beyond.
    """

    @staticmethod
    def forward(ctx: Any, distance: Tensor) -> Tensor:  # noqa: ANN401  torch's signature
        ctx.save_for_backward(distance)
        return (distance > 0).to(distance.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:  # noqa: ANN401  torch's signature
        (distance,) = ctx.saved_tensors
        away = distance.abs()
        tail = (away <= 1.0).to(away.dtype) * 0.4
        return gradients[0] * torch.where(away <= 0.4, 2.0 - 4.0 * away, tail)
