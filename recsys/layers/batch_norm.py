"""Batch norm that can train on a batch of one row (Ioffe & Szegedy 2015, algorithm 1)."""

from torch import Tensor, nn


class BatchNorm(nn.BatchNorm1d):
    """(B, dim) → (B, dim): torch's `BatchNorm1d`, except for training batches of one row.

    One row has no variance. Such a batch, usually the last of an epoch, is normalized with the
    running averages, as in evaluation, and does not update them.
    """

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or len(input) > 1:
            return super().forward(input)
        mean, variance = self.running_mean, self.running_var
        return nn.functional.batch_norm(
            input, mean, variance, self.weight, self.bias, training=False, eps=self.eps
        )
