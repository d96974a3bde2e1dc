"""Small state that exact training needs: step counts, random numbers, where ids become rows."""

import torch

from recsys.embeddings.methods.pruned import PrunedConfig
from recsys.training.checkpoint.random_state import get_random_state, set_random_state
from tests.embeddings.examples import kept_text
from tests.embeddings.test_contract import EXAMPLES, SINGLE, bags, build, look_up


def test_the_fused_kernels_are_told_how_many_steps_were_made():
    embeddings = build(EXAMPLES[0], "fused")
    look_up(embeddings, bags(SINGLE))  # the kernel has begun to count
    embeddings.store.restore_step_count(7)
    kernels = list(embeddings.store.groups["pooled"].kernels())
    assert len(kernels) == 1
    assert (kernels[0].iter.item(), kernels[0].iter_cpu.item()) == (7, 7)


def test_a_plain_store_has_no_kernels():
    assert list(build(EXAMPLES[0], "plain").store.groups["pooled"].kernels()) == []


def test_random_numbers_continue_where_they_were():
    cpu = torch.device("cpu")
    state = get_random_state(cpu)
    first = torch.rand(3)
    set_random_state(state, cpu)
    assert torch.equal(torch.rand(3), first)


def test_random_state_of_a_gpu_is_left_out_on_a_cpu():
    cpu = torch.device("cpu")
    state = get_random_state(cpu)
    first = torch.rand(3)
    set_random_state(torch.cat([state, torch.zeros(16, dtype=torch.uint8)]), cpu)
    assert torch.equal(torch.rand(3), first)


def test_what_makes_batches_stays_on_the_cpu_when_the_model_goes_to_a_device():
    every_other = kept_text(torch.arange(6) % 2 == 0)
    method = PrunedConfig(embedding_dim=2, kept=every_other).build("a", 6, "a")
    moved = torch.nn.Sequential(method, torch.nn.Linear(1, 1)).to("meta")
    assert moved[1].weight.device.type == "meta"
    (rows,) = method.rows(torch.arange(6))
    assert rows.tolist() == [0, 3, 1, 3, 2, 3]
