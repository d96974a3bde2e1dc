"""Batch norm with a training batch of one row, which torch's own layer refuses."""

import torch
from torch import nn

from recsys.layers.mlp import BatchNorm


def pair(dim=3):
    torch.manual_seed(0)
    ours, torchs = BatchNorm(dim), nn.BatchNorm1d(dim)
    batch = torch.randn(8, dim)
    ours(batch), torchs(batch)
    return ours, torchs


def test_batches_of_more_rows_equal_torchs_layer():
    ours, torchs = pair()
    batch = torch.randn(5, 3)
    assert torch.equal(ours(batch), torchs(batch))
    assert torch.equal(ours.running_var, torchs.running_var)
    assert torch.equal(ours.eval()(batch), torchs.eval()(batch))


def test_a_training_batch_of_one_row_uses_the_running_averages_and_keeps_them():
    ours, torchs = pair()
    row = torch.randn(1, 3, requires_grad=True)
    output = ours(row)
    torch.testing.assert_close(output, torchs.eval()(row))
    assert torch.equal(ours.running_mean, torchs.running_mean)
    assert int(ours.num_batches_tracked) == 1
    output.sum().backward()
    assert ours.weight.grad is not None
    assert row.grad is not None
