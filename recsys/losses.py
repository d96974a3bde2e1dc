"""The task of a model and its loss. Losses are sums over rows: the caller divides.

With several processes the divisor is the number of rows of all ranks, which only the caller knows.
"""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor
from torch.nn import functional as F


class Loss(Protocol):
    """Logits (B,), labels (B,) and optional weights (B,) of rows → the sum over the rows, ()."""

    def __call__(
        self, logits: Tensor, labels: Tensor, weights: Tensor | None = None, /
    ) -> Tensor: ...


def binary_cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Sum over rows of -w · ln p(label), in nats.

    Args:
        logits: (B,), any real numbers.
        labels: (B,), 0 or 1, in the dtype of the logits.
        weights: (B,), how much each row counts; None: 1 each.

    Returns:
        () in the dtype of the logits.
    """
    return F.binary_cross_entropy_with_logits(logits, labels, weights, reduction="sum")


@dataclass(frozen=True)
class Task:
    """What one logit of a model predicts: a label column of the dataset, trained by a loss."""

    name: str
    label: str
    loss: Loss = binary_cross_entropy
