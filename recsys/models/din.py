"""DIN: behaviors are weighted by their relevance to the target (Zhou et al. 2018, KDD, §4.3)."""

from collections.abc import Sequence
from typing import Literal, Self

import torch
from pydantic import Field as PydanticField
from pydantic import PositiveInt, model_validator
from torch import Tensor, nn

from recsys.errors import RecsysError
from recsys.layers.activations import Activation
from recsys.layers.history import History
from recsys.layers.jagged import pool, ranked_top_k, softmax, top_k
from recsys.layers.local_activation import LocalActivationUnit
from recsys.models.base import Field, HistoryShape
from recsys.models.sequence_tail import Tail, TailedModelConfig, pooled_dims


class DINConfig(TailedModelConfig):
    """Behaviors weighted by the softmax of their scores.

    The defaults, softmax and the product with the target, are the authors' code and scored best on
    valid rows (benchmarks/histories/din_defaults.py). The weights of a softmax start near
    1 ÷ length, so the model starts near mean pooling.
    """

    name: Literal["din"] = "din"
    attention_hidden_dims: tuple[PositiveInt, ...] = (64,)  # widths of the attention MLP
    attention_activation: Activation = "dice"  # of the attention MLP
    attention_dropout: float = PydanticField(0.0, ge=0, lt=1)  # share of its units set to 0
    softmax: bool = True  # false: use the scores as weights, the paper's sum (§4.3)
    # false: without the product with the target, as in the figure of the paper
    target_aware: bool = True
    scale_scores: bool = False  # divide scores by √D before the softmax, as the authors' code
    # use only the highest scores of a row, as DARE's authors; null: all
    top_k: PositiveInt | None = None
    # padded: Dice's statistics in the attention MLP count padding up to the dataset's max_length,
    # as in FuxiCTR
    dice_statistics: Literal["behaviours", "padded"] = "behaviours"

    @model_validator(mode="after")
    def _statistics_are_used(self) -> Self:
        if self.dice_statistics == "padded" and self.attention_activation != "dice":
            raise ValueError(
                "dice_statistics padded with attention_activation dice, and not with "
                f"{self.attention_activation}"
            )
        return self

    def build(
        self, fields: Sequence[Field], num_dense: int, histories: Sequence[HistoryShape]
    ) -> "DIN":
        attention = [
            DINAttention(
                self._build_unit(i, shape),
                self.softmax,
                shape.dim**-0.5 if self.scale_scores else 1.0,
                self.top_k,
            )
            for i, shape in enumerate(histories)
        ]
        return DIN(attention, self.build_tail(fields, num_dense, pooled_dims(histories)))

    def _build_unit(self, pair: int, shape: HistoryShape) -> LocalActivationUnit:
        is_padded = self.dice_statistics == "padded"
        if is_padded and shape.max_length is None:
            raise RecsysError(
                "dice_statistics: padded needs the max_length of the history",
                where=f"model.pairs.{pair}: {', '.join(self.pairs[pair].history)}",
                expected="sequences with a max_length in the dataset's schema",
                fix="set model.dice_statistics: behaviours, or prepare the data with max_length",
            )
        return LocalActivationUnit(
            shape.dim,
            self.attention_hidden_dims,
            activation=self.attention_activation,
            dropout=self.attention_dropout,
            padded_length=shape.max_length if is_padded else None,
        )


class DINAttention(nn.Module):
    """Weights of the behaviors of one pair."""

    def __init__(
        self, unit: LocalActivationUnit, has_softmax: bool, scale: float, num_found: int | None
    ) -> None:
        super().__init__()
        self.unit, self.has_softmax, self.scale = unit, has_softmax, scale
        self.num_found = num_found

    def scores(self, history: History) -> Tensor:
        """(L,)."""
        scores: Tensor = self.unit(history)
        return scores if self.scale == 1.0 else scores * self.scale

    def forward(self, history: History) -> Tensor:
        """Weights (L,)."""
        scores = self.scores(history)
        found = None if self.num_found is None else top_k(scores, history, self.num_found)
        if self.has_softmax:
            return softmax(scores, history, found)
        return scores if found is None else scores * found


class DIN(nn.Module):
    """Separate attention for each pair, then the tail."""

    def __init__(self, attention: Sequence[DINAttention], tail: Tail) -> None:
        super().__init__()
        self.attention = nn.ModuleList(attention)
        self.tail = tail

    def forward(self, vectors: Tensor, dense: Tensor, *histories: History) -> Tensor:
        """(B, ΣD), (B, N), histories → logits (B,)."""
        pooled = [
            pool(history.vectors, history, attend(history))
            for attend, history in zip(self.attention, histories, strict=True)
        ]
        return self.tail(vectors, dense, pooled, [history.target for history in histories])

    def attention_weights(self, history: History, pair: int = 0) -> Tensor:
        """(L,): weight of each behavior of that pair."""
        return self.attention[pair](history)

    @torch.no_grad()
    def retrieve(self, history: History, k: int, pair: int = 0) -> tuple[Tensor, Tensor]:
        """Ranks (B, k) of the k highest scores, 0 for none, and the scores (B, k)."""
        attention = self.attention[pair]
        assert isinstance(attention, DINAttention)  # ModuleList forgets the type
        return ranked_top_k(attention.scores(history), history, k)
