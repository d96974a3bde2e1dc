"""The steps of thresholds and factors against their formulas, worked out apart."""

import copy
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch.nn import functional as F

from recsys.config.run import RunConfig
from recsys.data.batch import Cursor
from recsys.distributed.context import Ranks
from recsys.embeddings.methods.base import EmbeddingKey
from recsys.embeddings.methods.dnis import Dnis
from recsys.schema import load_schema
from recsys.search.factor_module import FactorModule, looked_ahead, normalized
from recsys.search.scoring import ArchitectureRows, FactorRows, chooses
from recsys.search.shared_bands import with_band_ends
from recsys.search.threshold_module import ThresholdModule
from recsys.training.loaders import build_loader, loader_transform
from recsys.training.run_folder.trained import build_model
from tests.search.test_search import SECTIONS, config_of

CPU = torch.device("cpu")


@pytest.fixture
def config(tiny_dataset, request) -> RunConfig:
    return config_of(tiny_dataset, *request.param)


def train_batch(config, schema, model, number=0):
    loader = build_loader(config, schema, "train", model, Ranks(CPU), shuffle=True)
    return loader_transform(model, CPU)(loader.reader.batch(Cursor(0, number)))


def steps_of(module, batches):
    """Trains on these batches without a trainer's loop."""
    optimizer, *_ = module.configure_optimizers()
    module._optimizers = lambda: [optimizer]
    for batch in batches:
        logits, _ = module.model(batch)
        module.model.zero_grad()
        F.binary_cross_entropy_with_logits(logits, batch.labels).backward()
        module._step()


@pytest.mark.parametrize("config", [SECTIONS["optembed"]], indirect=True)
def test_thresholds_take_sgd_steps_and_are_pushed_up(config):
    schema = load_schema(config.data.path)
    model = build_model(config, schema).eval()  # all columns, so that both passes see the same
    module = ThresholdModule(model, config.train, Ranks(CPU), search=config.search)
    batch = train_batch(config, schema, model)
    logits, _ = model(batch)
    loss = F.binary_cross_entropy_with_logits(logits, batch.labels)
    gradients = torch.autograd.grad(loss, module.thresholds)
    steps_of(module, [batch])
    for threshold, gradient in zip(module.thresholds, gradients, strict=True):
        # d/dt of α·exp(-t) at t = 0 is -α
        expected = -config.search.threshold_learning_rate * (gradient - config.search.regularizer)
        torch.testing.assert_close(threshold.data, expected)
        assert threshold.item() != 0


@pytest.mark.parametrize("config", [SECTIONS["optembed"]], indirect=True)
def test_one_threshold_changes_its_own_feature_alone(config):
    schema = load_schema(config.data.path)
    embeddings = build_model(config, schema).eval().embeddings
    before = {name: embeddings.materialize(*name) for name in embeddings.methods}
    embeddings.methods[EmbeddingKey("shop")].threshold.data.fill_(1e9)
    for name, table in before.items():
        is_same = torch.equal(embeddings.materialize(*name), table)
        assert is_same == (name.feature != "shop")
    assert not embeddings.materialize("shop").any()


def test_a_bands_gradient_has_mean_magnitude_one_whatever_the_loss_is_scaled_by():
    gradient = torch.tensor([[1e-3, -3e-3], [0.0, 0.0], [20.0, 10.0]])
    expected = torch.tensor([[0.5, -1.5], [0.0, 0.0], [4 / 3, 2 / 3]])
    torch.testing.assert_close(normalized(gradient), expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(normalized(gradient * 100), expected, rtol=1e-4, atol=1e-6)


class Trainer:
    global_step = 0


@pytest.fixture
def module(config, monkeypatch):
    schema = load_schema(config.data.path)
    build = partial(FactorModule, run=config, schema=schema, search=config.search)
    made = build(build_model(config, schema).eval(), config.train, Ranks(CPU))
    monkeypatch.setattr(FactorModule, "trainer", Trainer())
    return made


FIRST_ORDER = [*SECTIONS["dnis"], "search.l1=0.001"]


@pytest.mark.parametrize("config", [FIRST_ORDER], indirect=True)
def test_a_factor_step_moves_the_factors_down_their_gradient_and_nothing_else(module):
    model = module.model
    batch = module.rows.at_step(0)
    for factor in module.factors:
        factor.data.fill_(0.5)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    tables = {name: value.clone() for name, value in model.embeddings.store.weights().items()}
    module._factor_step(batch)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]) == (not name.endswith("alpha"))
    for name, value in model.embeddings.store.weights().items():
        assert torch.equal(value, tables[name])
    moved = [factor.data.clone() for factor in module.factors]
    for factor, gradient in zip(moved, gradients_by_hand(model, batch, 0.5), strict=True):
        direction = gradient + 0.001
        direction = direction / direction.abs().mean(1, keepdim=True)
        torch.testing.assert_close(factor, 0.5 - 0.01 * direction, rtol=0, atol=1e-4)


def gradients_by_hand(model, batch, value):
    """The same loss with factors that are leaves of their own."""
    methods = [m for m in model.embeddings.methods.values() if isinstance(m, Dnis)]
    for method in methods:
        method.alpha.data.fill_(value)
        method.alpha.requires_grad_(True)
    logits, _ = model(batch)
    loss = F.binary_cross_entropy_with_logits(logits, batch.labels)
    found = torch.autograd.grad(loss, [m.alpha for m in methods])
    for method in methods:
        method.alpha.requires_grad_(False)
    return found


@pytest.mark.parametrize("config", [[*SECTIONS["dnis"], "search.l1=0"]], indirect=True)
def test_factors_stay_between_zero_and_one(module):
    for factor in module.factors:
        factor.data.fill_(0.005)
    module._factor_step(module.rows.at_step(0))
    values = torch.cat([factor.flatten() for factor in module.factors])
    assert values.min() == 0
    for factor in module.factors:
        factor.data.fill_(0.995)
    module._factor_step(module.rows.at_step(0))
    values = torch.cat([factor.flatten() for factor in module.factors])
    assert values.max() == 1


@pytest.mark.parametrize("config", [FIRST_ORDER], indirect=True)
def test_factors_are_trained_and_chosen_on_different_rows(module):
    rows = module.rows.rows
    trained = {module.rows.at_step(step).cursor.batch for step in range(20)}
    chosen = {n for n in range(len(rows)) if chooses(rows.batch(n))}
    assert trained | chosen == set(range(4))
    assert not trained & chosen


SHARED = [
    "embeddings.default={method: dnis, embedding_dim: 8, bands: 2, bands_over: all_features}",
    "search={name: dnis, budget_share: 0.5, l1: 0.001}",
]


@pytest.fixture
def shared_module(tiny_dataset, monkeypatch):
    schema = load_schema(tiny_dataset)
    config = with_band_ends(config_of(tiny_dataset, *SHARED), schema)
    model = build_model(config, schema).eval()
    monkeypatch.setattr(FactorModule, "trainer", Trainer())
    ranks = Ranks(CPU)
    return FactorModule(model, config.train, ranks, run=config, schema=schema, search=config.search)


def test_a_band_over_all_features_takes_one_step_of_its_summed_gradient(shared_module):
    module, batch = shared_module, shared_module.rows.at_step(0)
    for factor in module.factors:
        factor.data.fill_(0.5)
    module._factor_step(batch)
    numbers = [method.shared_bands for method in module.methods]
    moved = [factor.data.clone() for factor in module.factors]
    gradients = gradients_by_hand(module.model, batch, 0.5)
    assert {band for bands in numbers for band in bands} == {0, 1}
    for band in (0, 1):
        total = sum(
            gradient[bands.index(band)]
            for gradient, bands in zip(gradients, numbers, strict=True)
            if band in bands
        )
        direction = total + 0.001
        expected = 0.5 - 0.01 * direction / direction.abs().mean()
        for factor, bands in zip(moved, numbers, strict=True):
            if band in bands:
                row = factor[bands.index(band)]
                torch.testing.assert_close(row, expected, rtol=0, atol=1e-4)


FROZEN = [*SECTIONS["dnis"], "search.train_network=false", "search.warm_up_steps=1"]


@pytest.mark.parametrize("config", [FROZEN], indirect=True)
def test_a_network_that_is_not_trained_keeps_its_weights_after_the_warm_up(
    config, module, monkeypatch
):
    model = module.model
    batch = train_batch(config, load_schema(config.data.path), model)
    trainer = Trainer()
    monkeypatch.setattr(FactorModule, "trainer", trainer)
    states = [copy.deepcopy(model.state_dict())]
    tables = [copy.deepcopy(model.embeddings.store.weights())]
    for step in (0, 1):
        trainer.global_step = step
        steps_of(module, [batch])
        states.append(copy.deepcopy(model.state_dict()))
        tables.append(copy.deepcopy(model.embeddings.store.weights()))
    network = [name for name in states[0] if name.startswith("network.")]
    assert any(not torch.equal(states[0][name], states[1][name]) for name in network)
    assert all(torch.equal(states[1][name], states[2][name]) for name in network)
    assert all(not torch.equal(tables[1][name], tables[2][name]) for name in tables[1])


PLAIN = ["embeddings.store=plain", "train.embedding_optimizer={name: sgd, learning_rate: 0.1}"]


def in_double(batch):
    return replace(batch, dense=batch.dense.double(), labels=batch.labels.double())


@pytest.mark.parametrize("config", [[*SECTIONS["dnis"], *PLAIN]], indirect=True)
def test_the_look_ahead_is_the_gradient_after_a_step_of_the_tables(config):
    """Against finite differences of: step the tables on the train batch, then score the other."""
    schema = load_schema(config.data.path)
    model = build_model(config, schema).eval().double()
    rows = FactorRows(ArchitectureRows(config, schema, model, Ranks(CPU)))
    batches = in_double(train_batch(config, schema, model)), in_double(rows.at_step(0))
    alphas = [m.alpha for m in model.embeddings.methods.values()]
    for alpha in alphas:
        alpha.requires_grad_(True)
    gradients = torch.autograd.grad(looked_ahead(model, *batches, 30.0), alphas)
    first_order = torch.autograd.grad(looked_ahead(model, *batches, 1e-9), alphas)
    for alpha, gradient, plain in zip(alphas, gradients, first_order, strict=True):
        expected = difference(model, batches, alpha, 30.0)
        assert gradient[0, 0].item() == pytest.approx(expected, rel=1e-4)
        assert gradient[0, 0].item() != pytest.approx(plain[0, 0].item(), rel=1e-2)


def difference(model, batches, alpha, step, epsilon=1e-5) -> float:
    losses = []
    for sign in (1, -1):
        alpha.data[0, 0] += sign * epsilon
        losses.append(loss_after_step(model, *batches, step))
        alpha.data[0, 0] -= sign * epsilon
    return (losses[0] - losses[1]) / (2 * epsilon)


def loss_after_step(model, train, batch, step) -> float:
    tables = list(model.embeddings.store.parameters())
    saved = [table.data.clone() for table in tables]
    loss = F.binary_cross_entropy_with_logits(model(train)[0], train.labels)
    for table, gradient in zip(tables, torch.autograd.grad(loss, tables), strict=True):
        table.data -= step * gradient
    after = F.binary_cross_entropy_with_logits(model(batch)[0], batch.labels).item()
    for table, values in zip(tables, saved, strict=True):
        table.data.copy_(values)
    return after
