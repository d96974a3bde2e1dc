"""The L2 of looked-up rows over an epoch, for every store, method and kind of feature."""

import pytest
import torch

from recsys.distributed.build import build_on_ranks
from recsys.distributed.context import join_ranks
from recsys.schema import load_schema
from recsys.training.loaders import build_loader
from recsys.training.row_regularization import add_row_l2
from tests.training.penalty import (
    BATCH_ROWS,
    KINDS,
    LAMBDA,
    METHODS,
    ROWS,
    charged_by_due,
    penalty_config,
    write_penalty_datasets,
)

ALL_ONE = {name: pytest.approx(1.0, rel=1e-5) for name in METHODS}


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("penalty")
    write_penalty_datasets(folder)
    return folder


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("store", ["fused", "plain"])
def test_the_lookups_of_an_epoch_are_charged_the_full_penalty(datasets, store, kind):
    assert charged_by_due(store, kind, datasets) == ALL_ONE


@pytest.mark.parametrize("kind", ["single", "pooled, table shared", "history with attention's"])
def test_mini_batch_l2_charges_each_row_once_in_each_batch(datasets, kind):
    assert charged_by_due("fused, once", kind, datasets) == ALL_ONE


@pytest.mark.slow
@pytest.mark.distributed
@pytest.mark.parametrize("kind", KINDS)
def test_the_lookups_of_two_ranks_are_charged_the_full_penalty(datasets, kind):
    assert charged_by_due("sharded", kind, datasets) == ALL_ONE


@pytest.mark.parametrize("store", ["fused", "plain"])
def test_a_pooled_row_takes_the_gradient_step_of_its_charge(datasets, store):
    config = penalty_config(datasets, store, "full_table", "pooled, table shared")
    schema = load_schema(config.data.path)
    with join_ranks(torch.device("cpu")) as ranks:
        model, _, _ = build_on_ranks(config, schema, ranks)
        add_row_l2(model, config, schema, ranks)
        loader = build_loader(config, schema, "train", model, ranks, shuffle=True)
    transform, loader.transform = loader.transform, None
    found = [torch.cat([b.sparse[n].values() for n in ("item", "history")]) for b in loader]
    total = torch.bincount(torch.cat(found), minlength=80)
    before = model.embeddings.store.weights()["item"].clone()
    _, penalty = model.train()(transform(next(iter(loader))))
    penalty.backward()
    model.embeddings.store.step()
    lookups = torch.bincount(found[0], minlength=80)
    step = LAMBDA * ROWS / BATCH_ROWS * lookups / total.clamp(min=1)  # the learning rate is 1
    expected = before * (1 - step[:, None])
    torch.testing.assert_close(model.embeddings.store.weights()["item"], expected)


def test_adam_on_the_plain_store_decays_whole_tables_and_charges_no_lookup(datasets):
    config = penalty_config(datasets, "plain", "full_table", "pooled by mean")
    schema = load_schema(config.data.path)
    adam = {"name": "adam", "learning_rate": 0.1, "l2": LAMBDA}
    config = type(config).model_validate(
        {**config.model_dump(), "train": {**config.train.model_dump(), "embedding_optimizer": adam}}
    )
    with join_ranks(torch.device("cpu")) as ranks:
        model, _, _ = build_on_ranks(config, schema, ranks)
        add_row_l2(model, config, schema, ranks)
    assert model.embeddings.penalty is None
    (optimizer,) = model.embeddings.store.optimizers()
    assert [group["weight_decay"] for group in optimizer.param_groups] == [LAMBDA]
