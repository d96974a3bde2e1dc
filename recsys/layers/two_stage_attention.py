"""Attention in two stages: search a long history for the k behaviours that matter, weigh those.

DARE (Feng et al. 2025, ICLR, §3), TWIN (Chang et al. 2023, KDD) and the hard search of SIM
(Pi et al. 2020, CIKM, §3.2), which differ in what scores a behaviour and by what it is found.
"""

import math

import torch
from torch import Tensor, nn

from recsys.layers.history import History
from recsys.layers.jagged import expand, from_block, pool, ranked_top_k, softmax, to_block, top_k


class RankEmbedding(nn.Module):
    """A learned vector for each rank: row 0 is the target's, row 1 the most recent behaviour's."""

    def __init__(self, max_length: int, embedding_dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(max_length + 1, embedding_dim))
        nn.init.normal_(self.weight, std=0.01)

    @property
    def target(self) -> Tensor:
        """(P,)."""
        return self.weight[0]

    def behaviours(self, history: History) -> Tensor:
        """(T, P), T the history's max_length; zeros for ranks that no behaviour can have."""
        ranks = self.weight[1 : history.max_length + 1]
        return nn.functional.pad(ranks, (0, 0, 0, history.max_length - len(ranks)))


class TwoStageAttention(nn.Module):
    """score = ⟨k, q⟩/√A + ⟨p_rank, p_0⟩/√P; weights: softmax over the top-k scores of a row.

    positions: ranks' vectors beside those that are pooled; None leaves ranks out. They score ranks
    too (that part is scaled apart, as DARE's code does) unless attention_positions are given.
    same: where the columns of a behaviour's vector are that must equal the target's for it to be
    found, and then the most recent are; None searches by score. Equal vectors are taken for equal
    ids.
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
        """How much each behaviour matters to its row's target, (L,)."""
        query = expand(history.query, history)
        scores = (history.keys * query).sum(1) / math.sqrt(query.shape[1])
        ranks = self.attention_positions or self.positions
        if ranks is None:
            return scores
        of_ranks = ranks.behaviours(history) @ ranks.target / math.sqrt(ranks.weight.shape[1])
        block = of_ranks.expand(history.lengths.shape[0], -1)  # (B, T)
        return scores + from_block(block, history)

    def found(self, scores: Tensor, history: History) -> Tensor:
        """(L,) bool: what the search finds, at most `num_found` behaviours of a row."""
        order = self._search_order(scores, history)
        return top_k(order, history, self.num_found) & (order > -torch.inf)

    def pool(self, scores: Tensor, history: History, found: Tensor | None = None) -> Tensor:
        """(B, D + P): vectors and positions, weighted by the softmax over what was found."""
        weights = softmax(scores, history, found)
        pooled = pool(history.vectors, history, weights)
        if self.positions is None:
            return pooled
        block = to_block(weights, history, 0.0)  # (B, T)
        return torch.cat([pooled, block @ self.positions.behaviours(history)], dim=1)

    def target(self, history: History) -> Tensor:
        """(B, D + P): the target as its behaviours are."""
        if self.positions is None:
            return history.target
        position = self.positions.target.expand(history.target.shape[0], -1)
        return torch.cat([history.target, position], dim=1)

    def weights(self, history: History) -> Tensor:
        """(L,): what each behaviour weighs, 0 where it was not found."""
        scores = self.scores(history)
        return softmax(scores, history, self.found(scores, history))

    def retrieve(self, history: History, k: int) -> tuple[Tensor, Tensor]:
        """The search alone: ranks (B, k) int64, 0 where there is none, and what orders them."""
        return ranked_top_k(self._search_order(self.scores(history), history), history, k)

    def _search_order(self, scores: Tensor, history: History) -> Tensor:
        if self.same is None:
            return scores
        target = expand(history.target[:, self.same], history)
        differs = (history.vectors[:, self.same] != target).any(1)
        return (-history.ranks).to(scores.dtype).masked_fill(differs, -torch.inf)
