"""NaN and infinity in loss, gradients and weights: the first culprit is named."""

import math

import pytest
import torch

from recsys.config.base import validate
from recsys.config.run import RunConfig
from recsys.data.loader import BatchLoader
from recsys.errors import RecsysError
from recsys.schema import load_schema
from recsys.training.nan_checks import (
    check_gradients,
    check_loss,
    check_state,
    first_non_finite,
    is_finite,
)
from recsys.training.run_folder.trained import build_model
from tests.faults.conftest import CONFIG

NAN, INF = float("nan"), float("inf")
HASHED = {"method": "hashed", "embedding_dim": 8, "num_buckets": 7, "num_hashes": 2}


def model_and_batch(dataset, store="fused", optimizer=None, **features):
    """A fresh model and the first batch of the train split."""
    content = {
        **CONFIG,
        "data": {"path": str(dataset), "global_batch_size": 64},
        "embeddings": {**CONFIG["embeddings"], "store": store, "features": features},
    }
    if optimizer:
        content["train"] = {**CONFIG["train"], "embedding_optimizer": optimizer}
    config = validate(RunConfig, content, "test")
    schema = load_schema(dataset)
    model = build_model(config, schema)
    loader = BatchLoader(dataset, schema, "train", config.data, seed=0, shuffle=False)
    return model, model.embeddings.to_physical(next(iter(loader)))


def spoil_row(model, table, row, value=NAN):
    weights = {shard.table.name: shard.weight for shard in model.embeddings.store.shards()}
    weights[table][row, 3] = value


def backward(model, batch):
    logits, penalty = model(batch)
    (logits.sum() + penalty).backward()


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("position", [0, 12345, 99_999])
def test_any_value_that_is_not_finite_is_seen(value, position):
    values = torch.ones(1000, 100)
    assert is_finite(values)
    values.view(-1)[position] = value
    assert not is_finite(values)
    assert not is_finite(values[:, :100])


def test_the_largest_floats_empty_tensors_and_single_numbers_are_finite():
    assert is_finite(torch.full((10, 10), torch.finfo(torch.float32).max))
    assert is_finite(torch.empty(0, 4))
    assert is_finite(torch.tensor(1.0))
    assert not is_finite(torch.tensor(NAN))


@pytest.mark.parametrize("store", ["fused", "plain"])
def test_a_healthy_model_has_no_culprit(tiny_dataset, store):
    model, batch = model_and_batch(tiny_dataset, store)
    backward(model, batch)
    assert first_non_finite(model, batch) is None
    check_gradients(model, batch.cursor)
    check_state(model, batch.cursor)


@pytest.mark.parametrize("store", ["fused", "plain"])
def test_a_bad_row_is_named_by_its_feature_and_id(tiny_dataset, store):
    model, batch = model_and_batch(tiny_dataset, store)
    used = int(batch.lookups["pooled"].rows["item"].values()[5])
    spoil_row(model, "item", used)
    spoil_row(model, "item", (used + 1) % 80, INF)
    loss = model(batch)[0].mean().detach()
    with pytest.raises(RecsysError) as error:
        check_loss(loss, model, batch)
    words = ["the training loss", "epoch 1, batch 1", "feature 'item'", f"id {used}", "1 other row"]
    for word in words:
        assert word in str(error.value)


def test_a_bad_row_that_the_batch_does_not_use_is_found_before_it_is_saved(tiny_dataset):
    model, batch = model_and_batch(tiny_dataset)
    spoil_row(model, "shop", 19, INF)
    with pytest.raises(RecsysError, match=r"a weight is not finite(.|\n)*'shop', id 19\n"):
        check_state(model, batch.cursor)


def test_a_bad_row_of_a_hashed_table_is_a_row_and_no_id(tiny_dataset):
    model, batch = model_and_batch(tiny_dataset, item=HASHED)
    row = int(batch.lookups["pooled"].rows["item/1"].values()[0])
    spoil_row(model, "item", row)
    assert f"the table 'item' of feature 'item', row {row}" in first_non_finite(model, batch)


def test_a_bad_weight_is_named_by_its_layer(tiny_dataset):
    model, batch = model_and_batch(tiny_dataset)
    name, parameter = list(model.network.named_parameters())[2]
    with torch.no_grad():
        parameter.view(-1)[0] = NAN
    assert first_non_finite(model, batch) == f"the weights network.{name}"
    with pytest.raises(RecsysError, match=name):
        check_state(model, batch.cursor)


def test_an_output_that_overflows_is_named_by_its_layer(tiny_dataset):
    model, batch = model_and_batch(tiny_dataset)
    name, layer = next(
        (n, m) for n, m in model.network.named_modules() if isinstance(m, torch.nn.Linear)
    )
    with torch.no_grad():
        layer.bias.fill_(torch.finfo(torch.float32).max)
        layer.weight.fill_(3e38)
    assert first_non_finite(model, batch) == f"the output of {name}"


def test_on_many_ranks_the_largest_weight_stands_for_the_output(tiny_dataset, monkeypatch):
    model, batch = model_and_batch(tiny_dataset)
    name, parameter = list(model.network.named_parameters())[2]
    with torch.no_grad():
        parameter.view(-1)[0] = -2e38
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    expected = f"a layer's output; the largest weight is 2.0e+38 in network.{name}"
    assert first_non_finite(model, batch) == expected


@pytest.mark.parametrize("value", [NAN, INF])
def test_a_bad_gradient_is_named_before_a_step_takes_it(tiny_dataset, value):
    model, batch = model_and_batch(tiny_dataset)
    backward(model, batch)
    name, parameter = list(model.network.named_parameters())[1]
    parameter.grad.view(-1)[-1] = value
    with pytest.raises(RecsysError, match=f"a gradient is not (.|\n)*gradient of network.{name}"):
        check_gradients(model, batch.cursor)


def test_of_many_bad_gradients_the_first_of_the_backward_pass_is_named(tiny_dataset):
    model, batch = model_and_batch(tiny_dataset)
    hidden = next(m for m in model.network.model.mlp.modules() if isinstance(m, torch.nn.Linear))

    def spoil(_layer, _inputs, output):
        output.register_hook(lambda gradient: gradient * NAN)

    hook = hidden.register_forward_hook(spoil)
    backward(model, batch)
    hook.remove()
    assert not is_finite(model.network.numerical.vectors.grad)  # spoilt too, but later
    with pytest.raises(RecsysError, match=r"gradient of network\.model\.mlp\.[\w.]*bias"):
        check_gradients(model, batch.cursor)


def test_large_finite_gradients_pass(tiny_dataset):
    model, batch = model_and_batch(tiny_dataset)
    backward(model, batch)
    for parameter in model.dense_parameters():
        parameter.grad.fill_(1e30)  # the norm overflows, the gradients do not
    check_gradients(model, batch.cursor)


def test_a_bad_gradient_of_a_fused_table_is_found_at_the_next_loss(tiny_dataset):
    model, batch = model_and_batch(tiny_dataset)
    logits, _ = model(batch)
    (logits * INF).sum().backward()
    loss = model(batch)[0].mean().detach()
    assert not math.isfinite(loss)
    with pytest.raises(RecsysError, match="of feature 'color', id"):
        check_loss(loss, model, batch)


def test_sparse_gradients_of_plain_tables_are_no_obstacle(tiny_dataset):
    optimizer = {"name": "sparse_adam", "learning_rate": 0.1}
    model, batch = model_and_batch(tiny_dataset, "plain", optimizer)
    backward(model, batch)
    check_gradients(model, batch.cursor)
