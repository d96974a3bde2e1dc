"""Models of histories on the GPU: the CPU's logits and gradients, and the same bits every time."""

from dataclasses import fields, replace

import pytest
import torch

from tests.gpu.machine import DEVICE
from tests.histories import gradients, random_history
from tests.models.test_sequence_contract import EXAMPLES, build, each_model

SEARCHING = [config for config in EXAMPLES if config.name != "mean_pooling"]


def moved(history, device):
    """The same history as leaves on the device."""
    tensors = {field.name: getattr(history, field.name) for field in fields(history)}
    return replace(
        history,
        **{
            name: tensor.detach().to(device).requires_grad_(tensor.requires_grad)
            for name, tensor in tensors.items()
            if isinstance(tensor, torch.Tensor)
        },
    )


def step(config, device):
    model, vectors, dense, histories = build(config)
    model.to(device)
    vectors, dense = (t.detach().to(device).requires_grad_() for t in (vectors, dense))
    histories = [moved(history, device) for history in histories]
    logits = model(vectors, dense, *histories)
    logits.square().sum().backward()
    parameters = [p.grad for p in model.parameters()]
    slopes = [vectors.grad, *parameters, *(g for h in histories for g in gradients(h))]
    return [t.cpu() for t in (logits.detach(), *slopes) if t is not None]


@each_model
def test_logits_and_gradients_are_the_cpus(config):
    for got, expected in zip(step(config, DEVICE), step(config, "cpu"), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4)


@each_model
def test_two_steps_have_the_same_bits(config):
    pairs = zip(step(config, DEVICE), step(config, DEVICE), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


@pytest.mark.parametrize("config", SEARCHING, ids=lambda config: config.name)
@pytest.mark.parametrize("lengths", [(0, 0), (4, 0, 2)])
def test_a_search_finds_the_same_behaviours(config, lengths):
    attention_dim = 3 if config.attention == "required" else None
    history = random_history(lengths=lengths, attention_dim=attention_dim)
    model = build(config)[0].eval()
    expected = model.retrieve(history, 3)[0]
    assert torch.equal(model.to(DEVICE).retrieve(moved(history, DEVICE), 3)[0].cpu(), expected)
