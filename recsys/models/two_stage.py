"""Two-stage models: DARE, TWIN and SIM with hard search are variants of one network."""

from abc import ABC
from collections.abc import Sequence
from typing import ClassVar, Literal, Self

import torch
from pydantic import Field as PydanticField
from pydantic import PositiveInt, model_validator
from torch import Tensor, nn

from recsys.errors import RecsysError
from recsys.layers.activations import Activation
from recsys.layers.history import History
from recsys.layers.two_stage_attention import RankEmbedding, TwoStageAttention
from recsys.models.base import Field, HistoryShape
from recsys.models.sequence_tail import Tail, TailedModelConfig


class TwoStageModelConfig(TailedModelConfig, ABC):
    """Keeps the `top_k` best behaviors of a history; weighs them by the softmax of their scores."""

    activation: Activation = "prelu"
    target_aware: bool = True
    top_k: PositiveInt = 20  # behaviors that the search keeps
    # width of the vector of a rank (1 = the most recent), for scores and beside the pooled vectors;
    # null: order has no effect
    position_dim: PositiveInt | None = 16
    # weight of the loss of a second head, in training only, that sees the same fields and all
    # behaviors; 0: none
    auxiliary_weight: float = PydanticField(1.0, ge=0)
    auxiliary_hidden_dims: tuple[PositiveInt, ...] = (200,)  # widths of its MLP

    def build(
        self, fields: Sequence[Field], num_dense: int, histories: Sequence[HistoryShape]
    ) -> "TwoStage":
        attention = [self._build_attention(i, shape) for i, shape in enumerate(histories)]
        dims = [shape.dim + (self.position_dim or 0) for shape in histories]
        tail = self.build_tail(fields, num_dense, dims)
        auxiliary = None
        if self.auxiliary_weight > 0:
            auxiliary = self.build_tail(fields, num_dense, dims, self.auxiliary_hidden_dims)
        return TwoStage(attention, tail, auxiliary, self.auxiliary_weight)

    def attention_position_dim_of(self, position_dim: int) -> int | None:
        """Width of the embeddings that score ranks; None: the pooled ones score them."""
        return None

    def same_columns(self, pair: int, shape: HistoryShape) -> slice | None:
        """Columns that must equal the target's for a behavior to be found; None: by score."""
        return None

    def _build_attention(self, pair: int, shape: HistoryShape) -> TwoStageAttention:
        same = self.same_columns(pair, shape)
        if self.position_dim is None:
            return TwoStageAttention(self.top_k, same=same)
        if shape.max_length is None:
            raise RecsysError(
                "model.position_dim needs the max_length of the history",
                where=f"model.pairs.{pair}: {', '.join(self.pairs[pair].history)}",
                expected="sequences with a max_length in the dataset's schema",
                fix="set model.position_dim: null, or prepare the data with max_length",
            )
        positions = RankEmbedding(shape.max_length, self.position_dim)
        apart = self.attention_position_dim_of(self.position_dim)
        scored = None if apart is None else RankEmbedding(shape.max_length, apart)
        return TwoStageAttention(self.top_k, positions, scored, same)


class TWINConfig(TwoStageModelConfig):
    """TWIN: one attention for both stages, on one shared embedding (Chang et al. 2023, KDD).

    Without its projections and cross features, as in the comparison by DARE's authors. With
    `target_aware` and positions it is DARE without decoupled embeddings.
    """

    name: Literal["twin"] = "twin"


class SIMHardConfig(TwoStageModelConfig):
    """SIM with hard search: behaviors of the target's category (Pi et al. 2020, CIKM, §3.2).

    The most recent of them are weighed as in TWIN; SIM's own second stage has several heads.
    """

    name: Literal["sim_hard"] = "sim_hard"
    category: str  # feature of each pair's target that a behavior must share with the target

    @model_validator(mode="after")
    def _category_is_a_target(self) -> Self:
        for pair in self.pairs:
            if self.category not in pair.target:
                raise ValueError(
                    f"a category that every pair's target has; {self.category} is not one of "
                    f"{', '.join(pair.target)}"
                )
        return self

    def same_columns(self, pair: int, shape: HistoryShape) -> slice:
        place = self.pairs[pair].target.index(self.category)
        first = sum(shape.target_dims[:place])
        return slice(first, first + shape.target_dims[place])


class DAREConfig(TwoStageModelConfig):
    """DARE: TWIN with separate embeddings for attention (`embeddings.roles.search`).

    Feng et al. 2025, ICLR, §3. From the paper: the two tables, each shared by target and history;
    search and weights by ⟨k, q⟩/√A; the target-aware representation. From the authors' code: the
    positions and their own scale, [v, h, h · v] as inputs of the tail, the second head over the
    whole history. Two outputs and a softmax there are one logit here. The target's own position,
    equal in every row, scales h · v but is not an input of the tail: a constant column is what the
    bias already is.
    """

    attention: ClassVar[Literal["required", "refused"]] = "required"
    name: Literal["dare"] = "dare"
    # width of the scored vector of a rank; null: position_dim
    attention_position_dim: PositiveInt | None = None

    def attention_position_dim_of(self, position_dim: int) -> int:
        return self.attention_position_dim or position_dim


class TwoStage(nn.Module):
    """Searches, weighs and pools each history, then the tail; a second head in training."""

    def __init__(
        self,
        attention: Sequence[TwoStageAttention],
        tail: Tail,
        auxiliary_tail: Tail | None,
        auxiliary_weight: float,
    ) -> None:
        super().__init__()
        self.attention = nn.ModuleList(attention)
        self.tail, self.auxiliary_tail = tail, auxiliary_tail
        self.auxiliary_weight = auxiliary_weight

    def forward(self, vectors: Tensor, dense: Tensor, *histories: History) -> Tensor:
        """(B, ΣD), (B, N), histories → logits (B,)."""
        pooled = []
        for attention, history in zip(self._pairs(), histories, strict=True):
            scores = attention.scores(history)
            pooled.append(attention.pool(scores, history, attention.found(scores, history)))
        return self.tail(vectors, dense, pooled, self._targets(histories))

    def forward_with_auxiliary(
        self, vectors: Tensor, dense: Tensor, *histories: History
    ) -> tuple[Tensor, Tensor]:
        """(B, ΣD), (B, N), histories → logits (B,) of the first and the second head."""
        assert self.auxiliary_tail is not None  # there is one with a weight above 0
        searched, whole = [], []
        for attention, history in zip(self._pairs(), histories, strict=True):
            scores = attention.scores(history)
            searched.append(attention.pool(scores, history, attention.found(scores, history)))
            whole.append(attention.pool(scores, history))
        targets = self._targets(histories)
        logits: Tensor = self.tail(vectors, dense, searched, targets)
        return logits, self.auxiliary_tail(vectors, dense, whole, targets)

    def attention_weights(self, history: History, pair: int = 0) -> Tensor:
        """(L,): weight of each behavior of that pair, 0 if it was not found."""
        return self._pairs()[pair].weights(history)

    @torch.no_grad()
    def retrieve(self, history: History, k: int, pair: int = 0) -> tuple[Tensor, Tensor]:
        """The search alone: ranks (B, k) int64, 0 for none, and the scores (B, k)."""
        return self._pairs()[pair].retrieve(history, k)

    def _pairs(self) -> list[TwoStageAttention]:
        return [module for module in self.attention if isinstance(module, TwoStageAttention)]

    def _targets(self, histories: Sequence[History]) -> list[Tensor]:
        pairs = zip(self._pairs(), histories, strict=True)
        return [attention.target(history) for attention, history in pairs]
