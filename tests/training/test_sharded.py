"""Many processes train what one process trains: losses, weights, whatever the sharding."""

import pytest
import torch

from recsys.config.base import validate
from recsys.config.run import RunConfig
from recsys.config.yaml_files import apply_overrides
from tests.embeddings.examples import EXAMPLES
from tests.ranks import run_on_ranks
from tests.training.steps import train_steps, whole_tables

pytestmark = [pytest.mark.slow, pytest.mark.distributed]
STEPS = 50
ADAGRAD = {"name": "rowwise_adagrad", "learning_rate": 0.1, "l2": 1e-4}
SGD = {"name": "sgd", "learning_rate": 1.0}
MODELS = {
    "dcn_v2": {"name": "dcn_v2", "hidden_dims": [16]},
    "autoint": {"name": "autoint", "attention_dim": 8, "num_layers": 2},
}
# a row-wise accumulator per column shard is another optimiser, so columns are split under SGD
SHARDINGS = {
    "planned": ({}, ADAGRAD),
    "table_wise": ({"*": {"sharding": "table_wise"}}, ADAGRAD),
    "column_wise": ({"*": {"sharding": "column_wise"}}, SGD),
    "data_parallel": ({"*": {"sharding": "data_parallel"}}, ADAGRAD),
    "mixed": (
        {"item": {"sharding": "column_wise"}, "shop": {"sharding": "data_parallel"}},
        SGD,
    ),
}


def config_of(dataset, model, method, placement, optimizer, *overrides) -> RunConfig:
    features = {name: {"placement": asked} for name, asked in placement.items()}
    for name in ("item", "history"):
        features[name] = {**method, **features.get(name, {})}
    content = {
        "data": {"path": str(dataset), "global_batch_size": 64},
        "embeddings": {
            "default": {"method": "full_table", "embedding_dim": 8},
            "features": features,
        },
        "model": MODELS[model],
        "train": {
            "epochs": 9,
            "dense_optimizer": {"name": "adam", "learning_rate": 5e-3},
            "embedding_optimizer": optimizer,
        },
    }
    return validate(RunConfig, apply_overrides(content, overrides), "test")


def assert_equal(alone, together, tolerance=1e-5):
    """`alone` is one process, `together` the ranks; fp32 sums in another order are 1e-5 apart."""
    assert len(alone.losses) == STEPS
    for rank in together:
        assert rank.losses == pytest.approx(alone.losses, abs=tolerance)
        for name, value in alone.dense.items():
            torch.testing.assert_close(rank.dense[name], value, rtol=0, atol=tolerance)
    tables = whole_tables(together)
    for name, value in whole_tables([alone]).items():
        torch.testing.assert_close(tables[name], value, rtol=0, atol=tolerance)


def wide(method):
    """The example with rows that can be cut in two: a column shard has four columns at least."""
    return {**method.model_dump(mode="json"), "embedding_dim": 8}


@pytest.mark.parametrize("method", EXAMPLES, ids=lambda m: m.method)
def test_every_method_trains_alike_on_two_ranks_in_every_sharding(tiny_dataset, method):
    configs = {
        name: config_of(tiny_dataset, "dcn_v2", wide(method), placement, optimizer)
        for name, (placement, optimizer) in SHARDINGS.items()
    }
    alone = train_steps(configs, STEPS)
    together = run_on_ranks(2, train_steps, configs, STEPS)
    for name, (placement, _) in SHARDINGS.items():
        assert_equal(alone[name], [rank[name] for rank in together])
        if len(placement) == 1:
            assert set(together[0][name].kinds.values()) == {name}


def test_models_and_stores_train_alike_on_four_ranks(tiny_dataset):
    plain = ["embeddings.store=plain"]
    method = {"method": "full_table", "embedding_dim": 8}
    adam = {"name": "adam", "learning_rate": 0.01, "l2": 1e-4}
    configs = {
        "dcn_v2": config_of(tiny_dataset, "dcn_v2", method, *SHARDINGS["table_wise"]),
        "autoint": config_of(tiny_dataset, "autoint", method, *SHARDINGS["mixed"]),
        "dense adam": config_of(tiny_dataset, "dcn_v2", method, {}, adam, *plain),
    }
    alone = train_steps(configs, STEPS)
    together = run_on_ranks(4, train_steps, configs, STEPS)
    for name in configs:
        assert_equal(alone[name], [rank[name] for rank in together])


WRONG_ON_MANY = {
    "sparse gradients": (
        [
            "embeddings.store=plain",
            "train.embedding_optimizer={name: sparse_adam, learning_rate: 1}",
        ],
        "sparse gradients of the plain store",
    ),
    "batch statistics": (["model.batch_norm=true"], "batch_norm needs the statistics"),
    "more ranks than shards": (["data.num_shards=1"], "1 shards cannot be divided among 2 ranks"),
}


@pytest.mark.parametrize("name", WRONG_ON_MANY)
def test_what_cannot_be_exact_on_many_ranks_is_refused(tiny_dataset, name):
    overrides, message = WRONG_ON_MANY[name]
    method = {"method": "full_table", "embedding_dim": 8}
    config = config_of(tiny_dataset, "dcn_v2", method, {}, ADAGRAD, *overrides)
    with pytest.raises(AssertionError, match=message):
        run_on_ranks(2, train_steps, {"x": config}, 1)
