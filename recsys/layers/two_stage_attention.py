"""Attention in two stages: find the k most relevant behaviors of a long history, weigh them.

DARE (Feng et al. 2025, ICLR, §3), TWIN (Chang et al. 2023, KDD) and the hard search of SIM
(Pi et al. 2020, CIKM, §3.2), which differ in how behaviors are scored and found.
"""

import math

import torch
from torch import Tensor, nn

from recsys.layers.history import History
from recsys.layers.jagged import expand, from_block, pool, ranked_top_k, softmax, to_block, top_k


class RankEmbedding(nn.Module):
    """A learned vector for each rank: row 0 is the target's, row 1 the most recent behavior's."""

    def __init__(self, max_length: int, embedding_dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(max_length + 1, embedding_dim))
        nn.init.normal_(self.weight, std=0.01)

    @property
    def target(self) -> Tensor:
        """(P,)."""
        return self.weight[0]

    def behaviors(self, history: History) -> Tensor:
        """(T, P), T the history's max_length; zeros for ranks beyond the embedding."""
        ranks = self.weight[1 : history.max_length + 1]
        return nn.functional.pad(ranks, (0, 0, 0, history.max_length - len(ranks)))


class TwoStageAttention(nn.Module):
    """score = ⟨k, q⟩/√A + ⟨p_rank, p_0⟩/√P; weights: softmax over the top-k scores of a row.

    positions: embeddings of ranks, pooled beside the vectors; None: order has no effect. They
    score ranks too, with a scale of their own as in DARE's code, unless attention_positions do.
    same: columns of a behavior's vector that must equal the target's, as equal ids give; the
    search then returns the most recent matches. None: it searches by score.
    """

    def __init__(
        self,
        num_found: int,
        positions: RankEmbedding | None = None,
        attention_positions: RankEmbedding | None = None,
        same: slice | None = None,
    ) -> None:
        super().__init__()
        self.num_found, self.same = num_found, same
        self.positions, self.attention_positions = positions, attention_positions

    def scores(self, history: History) -> Tensor:
        """Relevance of each behavior to its row's target, (L,)."""
        query = expand(history.query, history)
        scores = (history.keys * query).sum(1) / math.sqrt(query.shape[1])
        ranks = self.attention_positions or self.positions
        if ranks is None:
            return scores
        of_ranks = ranks.behaviors(history) @ ranks.target / math.sqrt(ranks.weight.shape[1])
        block = of_ranks.expand(history.lengths.shape[0], -1)  # (B, T)
        return scores + from_block(block, history)

    def found(self, scores: Tensor, history: History) -> Tensor:
        """(L,) bool: the result of the search, at most `num_found` behaviors of a row."""
        order = self._search_order(scores, history)
        return top_k(order, history, self.num_found) & (order > -torch.inf)

    def pool(self, scores: Tensor, history: History, found: Tensor | None = None) -> Tensor:
        """(B, D + P): vectors and positions, weighted by the softmax over the found behaviors."""
        weights = softmax(scores, history, found)
        pooled = pool(history.vectors, history, weights)
        if self.positions is None:
            return pooled
        block = to_block(weights, history, 0.0)  # (B, T)
        return torch.cat([pooled, block @ self.positions.behaviors(history)], dim=1)

    def target(self, history: History) -> Tensor:
        """(B, D + P): the target's vector and position, as for behaviors."""
        if self.positions is None:
            return history.target
        position = self.positions.target.expand(history.target.shape[0], -1)
        return torch.cat([history.target, position], dim=1)

    def weights(self, history: History) -> Tensor:
        """(L,): weight of each behavior, 0 if it was not found."""
        scores = self.scores(history)
        return softmax(scores, history, self.found(scores, history))

    def retrieve(self, history: History, k: int) -> tuple[Tensor, Tensor]:
        """The search alone: ranks (B, k) int64, 0 for none, and the values that order them."""
        return ranked_top_k(self._search_order(self.scores(history), history), history, k)

    def _search_order(self, scores: Tensor, history: History) -> Tensor:
        if self.same is None:
            return scores
        target = expand(history.target[:, self.same], history)
        differs = (history.vectors[:, self.same] != target).any(1)
        return (-history.ranks).to(scores.dtype).masked_fill(differs, -torch.inf)
