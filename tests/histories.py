"""Random jagged histories, and the same as padded blocks for plain implementations."""

from collections.abc import Sequence

import torch
from torch import Tensor

from recsys.layers.history import History

LENGTHS = (3, 0, 5, 1, 2)


def random_history(
    dim: int = 4,
    lengths: Sequence[int] = LENGTHS,
    max_length: int = 6,
    attention_dim: int | None = None,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> History:
    """Vectors that require gradients."""
    generator = torch.Generator().manual_seed(seed)

    def normal(rows: int, width: int) -> Tensor:
        return torch.randn(rows, width, generator=generator, dtype=dtype).requires_grad_()

    history = History(
        normal(sum(lengths), dim),
        torch.tensor(lengths, dtype=torch.long),
        normal(len(lengths), dim),
        max_length,
    )
    if attention_dim is None:
        return history
    return History(
        history.vectors,
        history.lengths,
        history.target,
        max_length,
        normal(sum(lengths), attention_dim),
        normal(len(lengths), attention_dim),
    )


def padded(values: Tensor, history: History) -> Tensor:
    """(L, …) → (B, T, …), oldest first, zeros after the last; by a loop over rows."""
    rows = torch.split(values, history.lengths.tolist())
    block = values.new_zeros(len(rows), history.max_length, *values.shape[1:])
    for row, own in enumerate(rows):
        block[row, : len(own)] = own
    return block


def mask(history: History) -> Tensor:
    """(B, T) bool: where `padded` has a behavior."""
    return torch.arange(history.max_length) < history.lengths[:, None]


def gradients(history: History) -> list[Tensor]:
    """What a backward pass left in the history's vectors and targets."""
    tensors = (
        history.vectors,
        history.target,
        history.attention_vectors,
        history.attention_target,
    )
    return [tensor.grad for tensor in tensors if tensor is not None]
