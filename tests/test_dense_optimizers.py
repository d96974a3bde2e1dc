"""The list of dense optimizers: an entry is accepted, built, counted and named in messages."""

import pytest
import torch
from torch import nn

from recsys.config.base import validate
from recsys.config.dense_optimizers import (
    DENSE_OPTIMIZERS,
    DenseOptimizer,
    DenseOptimizerConfig,
)
from recsys.errors import RecsysError
from tests.embeddings.test_memory import Toy, count


@pytest.fixture
def _with_rmsprop(monkeypatch):
    toy = DenseOptimizer(torch.optim.RMSprop, state_floats=5)
    monkeypatch.setitem(DENSE_OPTIMIZERS, "rmsprop", toy)


@pytest.mark.usefixtures("_with_rmsprop")
def test_an_optimizer_of_the_list_is_accepted_in_a_config_and_built():
    config = DenseOptimizerConfig(name="rmsprop", learning_rate=0.5, weight_decay=0.25)
    optimizer = config.build([nn.Parameter(torch.ones(2))])
    assert type(optimizer) is torch.optim.RMSprop
    group = optimizer.param_groups[0]
    assert (group["lr"], group["weight_decay"]) == (0.5, 0.25)


@pytest.mark.usefixtures("_with_rmsprop")
def test_the_state_of_an_optimizer_of_the_list_is_counted():
    sizes = {
        name: count({"a": Toy("a", "a")}, dense=name, projections={"a": 7})
        for name in ("sgd", "rmsprop")
    }
    trained = 6 * 8 + 7  # the method's matrix and the projection; its threshold is fixed
    assert sizes["rmsprop"].train_bytes - sizes["sgd"].train_bytes == 5 * trained * 4


@pytest.mark.usefixtures("_with_rmsprop")
def test_the_message_for_an_unknown_optimizer_lists_all_entries():
    with pytest.raises(RecsysError) as caught:
        validate(DenseOptimizerConfig, {"name": "rmsprob", "learning_rate": 1.0}, "test")
    message = str(caught.value)
    assert "unknown name 'rmsprob'" in message
    assert ", ".join(DENSE_OPTIMIZERS) in message
    assert "did you mean 'rmsprop'?" in message
    names = DenseOptimizerConfig.model_json_schema()["properties"]["name"]["enum"]
    assert "rmsprop" in names  # the docs list what the schema says
