"""What every embedding method promises, and the fused optimisers, on the GPU."""

import re

import pytest
import torch

from recsys.embeddings.optimizers import AdamConfig
from tests.embeddings import test_contract as contract
from tests.embeddings.test_contract import *  # noqa: F403  every test of the contract, again
from tests.gpu.machine import DEVICE, HAS_FUSED, NO_KERNELS, needs_fused_cuda


@pytest.fixture(autouse=True)
def _on_the_device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contract, "DEVICE", DEVICE)
    store = request.node.callspec.params.get("store") if hasattr(request.node, "callspec") else None
    if not HAS_FUSED and (store == "fused" or re.search("fused|both_stores", request.node.name)):
        pytest.skip(NO_KERNELS)


@needs_fused_cuda
@contract.each_method
@pytest.mark.parametrize("kind", ["categorical", "sequence"])
def test_fused_adam_equals_the_plain_oracle(method, kind):
    # Over rows of the batch only, and all rows of these tables' batch are in every batch.
    contract.test_fused_updates_equal_the_plain_oracle(method, kind, AdamConfig(learning_rate=0.01))


def test_the_tables_and_the_vectors_are_on_the_device():
    embeddings = contract.build(contract.EXAMPLES[0], "fused" if HAS_FUSED else "plain")
    vectors = contract.look_up(embeddings, contract.bags(contract.SINGLE))
    assert vectors.device.type == DEVICE.type
    assert {w.device.type for w in embeddings.store.weights().values()} == {DEVICE.type}


@needs_fused_cuda
def test_a_row_of_thousands_of_occurrences_is_updated_as_by_the_plain_oracle():
    # The kernels split a long segment over thread blocks.
    ids = contract.bags([[[3]] * 5000, [[2], [7]] * 2500])
    trained = {}
    for store in contract.STORES:
        embeddings = contract.build(contract.EXAMPLES[0], store)
        contract.look_up(embeddings, ids).square().sum().backward()
        for step in embeddings.store.optimizers():
            step.step()
        trained[store] = embeddings.store.weights()
    for name, weight in trained["plain"].items():
        # sums of 5,000 fp32 gradients in another order
        torch.testing.assert_close(trained["fused"][name], weight, rtol=1e-3, atol=1e-5)
