"""DIN's local activation unit: the relevance of each behavior to the target (§4.3)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recsys.layers.activations import Activation
from recsys.layers.dice import Dice
from recsys.layers.history import History
from recsys.layers.jagged import expand
from recsys.layers.linear import JaggedLinear, build_linear, multiply_jagged
from recsys.layers.mlp import build_mlp


class LocalActivationUnit(nn.Module):
    """score = MLP([q, k, q − k, q · k]) of a target q and each behavior k, both (dim,).

    The weight (H, 4·dim) of the first linear is applied in parts, without concatenation: q's part
    once for each row instead of each behavior, k's part together with that of q − k.
    `padded_length`: Dice's statistics count every row as if it had this many behaviors, the missing
    ones being zero vectors, as in FuxiCTR; None counts the actual ones.
    """

    def __init__(
        self,
        dim: int,
        hidden_dims: Sequence[int],
        *,
        activation: Activation,
        dropout: float,
        padded_length: int | None = None,
    ) -> None:
        super().__init__()
        self.padded_length = padded_length
        self.mlp = build_mlp(
            4 * dim, hidden_dims, activation=activation, dropout=dropout, linear=JaggedLinear
        )
        last_dim = hidden_dims[-1] if hidden_dims else 4 * dim
        self.mlp.append(build_linear(last_dim, 1, kind=JaggedLinear))

    def forward(self, history: History) -> Tensor:
        """Scores (L,)."""
        of_rows, hidden = self._first_linear(history)  # (B, H), (L, H)
        counts = None
        if self.padded_length is not None and self.training:
            # for a missing behavior, k = 0, only q's part remains: one row, counted many times
            missing = self.padded_length - history.lengths
            counts = torch.cat([hidden.new_ones(len(hidden)), missing.to(hidden.dtype)])
            hidden = torch.cat([hidden, of_rows])
        for layer in list(self.mlp)[1:]:
            hidden = layer(hidden, counts) if isinstance(layer, Dice) else layer(hidden)
        return hidden[: history.keys.shape[0], 0]

    def _first_linear(self, history: History) -> tuple[Tensor, Tensor]:
        """(B, H): the part of a row's query and the bias. (L, H): the linear's whole output."""
        linear, keys, query = self.mlp[0], history.keys, history.query
        assert isinstance(linear, nn.Linear)  # Sequential forgets the type
        of_query, of_key, of_difference, of_product = torch.split(
            linear.weight, query.shape[1], dim=1
        )
        of_rows = F.linear(query, of_query + of_difference, linear.bias)
        hidden = expand(of_rows, history).add_(multiply_jagged(keys, of_key - of_difference))
        products = expand(query, history) * keys
        return of_rows, hidden.add_(multiply_jagged(products, of_product))
