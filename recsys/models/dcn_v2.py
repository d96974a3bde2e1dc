"""DCN-V2: explicit crosses of bounded degree, and an MLP (Wang et al. 2021, WWW, §3)."""

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field as PydanticField
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor, nn

from recsys.layers.cross import CrossNetwork
from recsys.layers.linear import build_linear
from recsys.layers.mlp import build_mlp
from recsys.models.base import BaseModelConfig, Field


class DCNv2Config(BaseModelConfig):
    """Cross network and MLP; the structures are figure 1 of the paper."""

    name: Literal["dcn_v2"] = "dcn_v2"
    # parallel: score [cross(x), mlp(x)]. stacked: score mlp(cross(x))
    structure: Literal["parallel", "stacked"] = "parallel"
    num_cross_layers: NonNegativeInt = 3  # layers of the cross network; 0: none
    low_rank: PositiveInt | None = None  # rank of a cross matrix; null: full
    hidden_dims: tuple[PositiveInt, ...] = (256, 128)  # widths of the MLP; []: none
    input_dropout: float = PydanticField(0.0, ge=0, lt=1)  # share of inputs set to 0
    dropout: float = PydanticField(0.0, ge=0, lt=1)  # share of hidden units set to 0
    batch_norm: bool = False  # in each layer of the MLP

    def build(self, fields: Sequence[Field], num_dense: int) -> "DCNv2":
        in_dim = sum(field.dim for field in fields) + num_dense
        mlp = build_mlp(in_dim, self.hidden_dims, dropout=self.dropout, batch_norm=self.batch_norm)
        cross = CrossNetwork(in_dim, self.num_cross_layers, self.low_rank)
        out_dim = self.hidden_dims[-1] if self.hidden_dims else in_dim
        if self.structure == "parallel":
            out_dim = in_dim + (out_dim if self.hidden_dims else 0)
        return DCNv2(cross, mlp, out_dim, self.structure == "parallel", self.input_dropout)


class DCNv2(nn.Module):
    """Cross network and MLP over the concatenated features."""

    def __init__(
        self,
        cross: CrossNetwork,
        mlp: nn.Sequential,
        out_dim: int,
        is_parallel: bool,
        input_dropout: float,
    ) -> None:
        super().__init__()
        self.cross, self.mlp, self.is_parallel = cross, mlp, is_parallel
        self.input_dropout = nn.Dropout(input_dropout)
        self.head = build_linear(out_dim, 1)

    def forward(self, vectors: Tensor, dense: Tensor) -> Tensor:
        """(B, ΣD), (B, N) → logits (B,)."""
        features = self.input_dropout(torch.cat([vectors, dense], dim=1))  # (B, ΣD + N)
        crossed = self.cross(features)  # (B, ΣD + N)
        if not self.is_parallel:
            return self.head(self.mlp(crossed)).squeeze(1)
        if len(self.mlp) == 0:
            return self.head(crossed).squeeze(1)
        return self.head(torch.cat([crossed, self.mlp(features)], dim=1)).squeeze(1)
