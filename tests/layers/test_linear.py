import pytest
import torch
from torch.nn import functional as F

from recsys.layers import linear
from recsys.layers.linear import build_linear, multiply

needs_onednn = pytest.mark.skipif(
    not linear.IS_ONEDNN_FASTER, reason="this machine has no AVX-512: nn.Linear is what runs"
)


def draw(*shape):
    return torch.randn(*shape, dtype=torch.float64).float()


@needs_onednn
@pytest.mark.parametrize("shape", [(1, 5), (64, 32), (7, 3, 19), (4096, 624)])
@pytest.mark.parametrize("out_dim", [1, 33])
@pytest.mark.parametrize("has_bias", [True, False])
def test_product_and_gradients_are_those_of_float64(shape, out_dim, has_bias):
    torch.manual_seed(0)
    values, weight = draw(*shape), draw(out_dim, shape[-1])
    bias = draw(out_dim) if has_bias else None
    given = [each.requires_grad_() for each in (values, weight, bias) if each is not None]
    exact = [each.detach().double().requires_grad_() for each in given]
    product = multiply(values, weight, bias)
    expected = F.linear(exact[0], exact[1], exact[2] if has_bias else None)
    gradient = draw(*product.shape)
    torch.testing.assert_close(product.double(), expected, rtol=1e-5, atol=1e-4)
    found = torch.autograd.grad(product, given, gradient)
    for ours, theirs in zip(
        found, torch.autograd.grad(expected, exact, gradient.double()), strict=True
    ):
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-5, atol=1e-3)


@needs_onednn
def test_weight_gradients_beyond_the_cache_are_the_same(monkeypatch):
    values, weight, bias = draw(200, 8), draw(4, 8).requires_grad_(), draw(4).requires_grad_()
    gradient = draw(200, 4)

    def gradients():
        return torch.autograd.grad(multiply(values, weight, bias), (weight, bias), gradient)

    copied = gradients()
    monkeypatch.setattr(linear, "MOST_COPIED", 0)
    torch.testing.assert_close(copied, gradients(), rtol=1e-5, atol=1e-5)


@needs_onednn
def test_views_with_gaps_do_not_meet_onednns_reference(monkeypatch):
    seen = []
    monkeypatch.setattr(linear, "_by_onednn", lambda *args: seen.append(args) or F.linear(*args))
    wide, weights = draw(10, 40), draw(6, 40)
    values = wide[:, ::2].requires_grad_()
    multiply(values, weights[:, 20:], None).sum().backward()  # its gradient has strides of 0
    assert len(seen) == 2
    for factor, weight, *_ in seen:
        assert factor.is_contiguous()
        assert weight.is_contiguous() or weight.t().is_contiguous()


@needs_onednn
def test_second_derivatives():
    values, weight = draw(5, 3).requires_grad_(), draw(2, 3).requires_grad_()

    def penalty(product):
        (gradient,) = torch.autograd.grad(product.square().sum(), values, create_graph=True)
        return torch.autograd.grad(gradient.square().sum(), (values, weight))

    torch.testing.assert_close(
        penalty(multiply(values, weight, None)), penalty(F.linear(values, weight))
    )


@pytest.mark.parametrize("rows", [0, 1])
def test_double_precision_and_no_rows_are_nn_linears(rows):
    layer = build_linear(3, 2).double()
    values = torch.randn(rows, 3, dtype=torch.float64)
    assert torch.equal(layer(values), F.linear(values, layer.weight, layer.bias))
    assert build_linear(3, 2)(torch.empty(0, 3)).shape == (0, 2)
