"""Cross layers of DCN-V2 (Wang et al. 2021, equation 1; low rank: equation 2)."""

from torch import Tensor, nn

from recsys.layers.linear import build_linear


class CrossNetwork(nn.Module):
    """x_{l+1} = x_0 ⊙ (W x_l + b) + x_l; with `low_rank` r, W = U Vᵀ of rank r."""

    def __init__(self, in_dim: int, num_layers: int, low_rank: int | None = None) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            build_linear(in_dim, in_dim)
            if low_rank is None
            else nn.Sequential(
                build_linear(in_dim, low_rank, bias=False), build_linear(low_rank, in_dim)
            )
            for _ in range(num_layers)
        )

    def forward(self, features: Tensor) -> Tensor:
        """(B, in_dim) → (B, in_dim)."""
        crossed = features
        for layer in self.layers:
            crossed = features * layer(crossed) + crossed
        return crossed
