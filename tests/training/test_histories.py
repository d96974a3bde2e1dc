"""Models of histories, end to end: losses and weights on one process and two, and after a kill."""

import pytest

from recsys.config.base import validate
from recsys.config.run import RunConfig
from recsys.config.yaml_files import apply_overrides
from tests.embeddings.examples import EXAMPLES
from tests.ranks import run_on_ranks
from tests.training.steps import train_steps
from tests.training.test_sharded import ADAGRAD, SGD, assert_equal

pytestmark = [pytest.mark.slow, pytest.mark.distributed]
PAIRS = [{"target": ["item"], "history": ["history"]}]
TABLE = {"method": "full_table", "embedding_dim": 8}
ATTENTION = {"default": {"method": "full_table", "embedding_dim": 4}, "learning_rate": 0.02}
MODELS = {
    "din": {"name": "din", "softmax": False},
    "din, relu": {
        "name": "din",
        "attention_activation": "relu",
        "activation": "relu",
        "softmax": False,
    },
    "din, softmax": {"name": "din", "attention_activation": "prelu", "softmax": True},
    "mean_pooling": {"name": "mean_pooling"},
    "twin": {"name": "twin", "top_k": 3, "position_dim": 4},
    "dare": {"name": "dare", "top_k": 3, "position_dim": 4},
}


def config_of(dataset, model, *overrides, method=TABLE, optimizer=ADAGRAD) -> RunConfig:
    content = {
        "data": {"path": str(dataset), "global_batch_size": 64},
        "embeddings": {
            "default": TABLE,
            "features": {"item": method, "history": {"shares_table_with": "item"}},
            "roles": {"search": ATTENTION} if model == "dare" else {},
        },
        "model": {**MODELS[model], "pairs": PAIRS, "hidden_dims": [16]},
        "train": {
            "epochs": 9,
            "dense_optimizer": {"name": "adam", "learning_rate": 5e-3},
            "embedding_optimizer": optimizer,
        },
    }
    if content["model"].get("softmax"):
        # a softmax does not see its scores' common bias: Adam would make steps of the rounding
        content["train"]["dense_optimizer"] = {"name": "sgd", "learning_rate": 0.1}
    return validate(RunConfig, apply_overrides(content, overrides), "test")


@pytest.fixture(scope="module")
def configs(tiny_dataset) -> dict[str, RunConfig]:
    found = {
        f"{model}, {o['name']}": config_of(tiny_dataset, model, optimizer=o)
        for model in MODELS
        for o in (ADAGRAD, SGD)
    }
    for example in EXAMPLES:
        method = {**example.model_dump(mode="json"), "embedding_dim": 8}
        found[f"din with {example.method}"] = config_of(tiny_dataset, "din", method=method)
    plain = [
        "embeddings.store=plain",
        "train.embedding_optimizer={name: adam, learning_rate: 1e-3}",
    ]
    found["dare, plain"] = config_of(tiny_dataset, "dare", *plain)
    return found


@pytest.fixture(scope="module")
def alone(configs):
    return train_steps(configs, 50)


@pytest.fixture(scope="module")
def together(configs):
    return run_on_ranks(2, train_steps, configs, 50)


def test_two_processes_train_what_one_trains(configs, alone, together):
    for name in configs:
        assert_equal(alone[name], [rank[name] for rank in together])


def test_the_losses_fall(alone):
    for name, steps in alone.items():
        assert sum(steps.losses[-10:]) < sum(steps.losses[:10]), name
