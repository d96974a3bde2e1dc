"""Dice against its formula, written with NumPy, in training and in evaluation."""

import numpy as np
import pytest
import torch

from recsys.layers.dice import Dice
from tests.ranks import run_on_ranks

VALUES = np.array([[1.0, -2.0], [3.0, 0.5], [2.0, 4.0], [-1.0, 1.5]])


def dice_by_hand(values, mean, variance, alpha):
    gate = 1 / (1 + np.exp(-(values - mean) / np.sqrt(variance + 1e-9)))
    return gate * values + (1 - gate) * alpha * values


@pytest.fixture
def dice():
    layer = Dice(2)
    with torch.no_grad():
        layer.alpha.copy_(torch.tensor([0.3, -0.2]))
    return layer


def test_training_uses_the_batchs_mean_and_biased_variance(dice):
    expected = dice_by_hand(VALUES, VALUES.mean(0), VALUES.var(0), [0.3, -0.2])
    got = dice(torch.tensor(VALUES, dtype=torch.float32))
    np.testing.assert_allclose(got.detach(), expected, rtol=1e-5, atol=1e-6)


def test_moving_averages_take_one_percent_of_the_mean_and_the_unbiased_variance(dice):
    dice(torch.tensor(VALUES, dtype=torch.float32))
    mean, variance = 0.01 * VALUES.mean(0), 0.99 + 0.01 * VALUES.var(0, ddof=1)
    np.testing.assert_allclose(dice.running_mean, mean, rtol=1e-6)
    np.testing.assert_allclose(dice.running_var, variance, rtol=1e-6)
    got = dice.eval()(torch.tensor(VALUES, dtype=torch.float32))
    np.testing.assert_allclose(
        got.detach(), dice_by_hand(VALUES, mean, variance, [0.3, -0.2]), rtol=1e-5, atol=1e-6
    )


def test_counts_stand_for_repeated_rows():
    torch.manual_seed(0)
    counted, repeated = Dice(3), Dice(3)
    values, counts = torch.randn(5, 3), torch.tensor([1.0, 0.0, 2.0, 3.0, 1.0])
    written_out = torch.repeat_interleave(values, counts.long(), dim=0)
    got, expected = counted(values, counts), repeated(written_out)
    torch.testing.assert_close(torch.repeat_interleave(got, counts.long(), 0), expected)
    torch.testing.assert_close(counted.running_mean, repeated.running_mean)
    torch.testing.assert_close(counted.running_var, repeated.running_var)


def test_the_kernel_and_the_formula_have_one_gradient():
    torch.manual_seed(0)
    values, upstream = torch.randn(6, 3), torch.randn(6, 3)
    slopes = []
    for counts in (None, torch.ones(6)):
        layer, own = Dice(3), values.clone().requires_grad_()
        with torch.no_grad():
            layer.alpha.fill_(0.25)
        (layer(own, counts) * upstream).sum().backward()
        slopes.append((own.grad, layer.alpha.grad))
    torch.testing.assert_close(slopes[0], slopes[1])


def test_alpha_starts_at_zero_and_one_makes_it_the_identity(dice):
    assert Dice(4).alpha.tolist() == [0.0] * 4
    with torch.no_grad():
        dice.alpha.fill_(1.0)
    values = torch.tensor(VALUES, dtype=torch.float32)
    torch.testing.assert_close(dice(values), values)


@pytest.mark.parametrize("number", [0, 1])
def test_a_batch_of_none_or_one_leaves_everything_finite(number):
    dice = Dice(3)
    values = torch.full((number, 3), 2.0, requires_grad=True)
    out = dice(values)
    out.sum().backward()
    assert out.shape == (number, 3)
    for tensor in (out, values.grad, dice.running_mean, dice.running_var):
        assert tensor.isfinite().all()
    if number == 0:
        assert torch.equal(dice.running_var, torch.ones(3))


def dice_of_share(rank_sizes):
    """One rank's part: its rows of a fixed batch → outputs, gradients and averages."""
    torch.distributed.init_process_group("gloo")
    try:
        rank = torch.distributed.get_rank()
        start = sum(rank_sizes[:rank])
        return one_step(slice(start, start + rank_sizes[rank]))
    finally:
        torch.distributed.destroy_process_group()


def one_step(rows):
    torch.manual_seed(0)
    layer, values, upstream = Dice(3), torch.randn(7, 3), torch.randn(7, 3)
    with torch.no_grad():
        layer.alpha.copy_(torch.tensor([0.5, -0.1, 0.2]))
    own = values[rows].clone().requires_grad_()
    out = layer(own)
    (out * upstream[rows]).sum().backward()
    averages = layer.running_mean, layer.running_var
    return [t.detach().numpy() for t in (out, own.grad, layer.alpha.grad, *averages)]


@pytest.mark.distributed
@pytest.mark.parametrize("rank_sizes", [(5, 2), (7, 0)])
def test_ranks_share_their_statistics(rank_sizes):
    outs, slopes, of_alpha, *averages = zip(
        *run_on_ranks(2, dice_of_share, rank_sizes), strict=True
    )
    out, slope, alpha, mean, variance = one_step(slice(0, 7))
    np.testing.assert_allclose(np.concatenate(outs), out, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(np.concatenate(slopes), slope, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(sum(of_alpha), alpha, rtol=1e-5)
    for shared, whole in zip(averages, (mean, variance), strict=True):
        for own in shared:
            np.testing.assert_allclose(own, whole, rtol=1e-6)
