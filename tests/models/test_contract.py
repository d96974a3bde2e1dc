"""What every model without histories promises, tried on each member of the union."""

from typing import get_args

import pytest
import torch

from recsys.errors import RecsysError
from recsys.models import ModelConfig
from recsys.models.autoint import AutoIntConfig
from recsys.models.base import Field, SequenceModelConfig
from recsys.models.dcn_v2 import DCNv2Config
from recsys.models.logistic_regression import LogisticRegressionConfig

# (config, width of its fields, raw numericals it takes); a model without one fails the first test.
EXAMPLES = [
    (LogisticRegressionConfig(), 1, 2),
    (DCNv2Config(hidden_dims=(8, 4)), 4, 2),
    (DCNv2Config(hidden_dims=(8,), structure="stacked", batch_norm=True), 4, 2),
    (DCNv2Config(hidden_dims=(), low_rank=2), 4, 0),
    (AutoIntConfig(attention_dim=6), 4, 0),
    (AutoIntConfig(attention_dim=6, hidden_dims=(8, 4)), 4, 0),
    (
        AutoIntConfig(
            attention_dim=4,
            residual="identity_if_equal",
            projection_bias=True,
            projection_relu=True,
            scale_scores=True,
            attention_dropout=0.1,
            layer_norm="after_relu",
        ),
        4,
        0,
    ),
]
each_model = pytest.mark.parametrize(("config", "dim", "num_dense"), EXAMPLES)
NUM_FIELDS, BATCH = 3, 5


def build(config, dim, num_dense):
    torch.manual_seed(0)
    model = config.build([Field(f"f{i}", dim) for i in range(NUM_FIELDS)], num_dense)
    generator = torch.Generator().manual_seed(1)
    vectors = torch.randn(BATCH, NUM_FIELDS * dim, generator=generator)
    dense = torch.randn(BATCH, num_dense, generator=generator)
    return model, vectors, dense


def test_every_model_has_an_example():
    models = get_args(get_args(ModelConfig)[0])
    plain = {model for model in models if not issubclass(model, SequenceModelConfig)}
    assert {type(config) for config, _, _ in EXAMPLES} == plain


@each_model
def test_logits_have_one_value_per_sample(config, dim, num_dense):
    model, vectors, dense = build(config, dim, num_dense)
    assert model(vectors, dense).shape == (BATCH,)


@each_model
def test_every_parameter_and_input_receives_a_gradient(config, dim, num_dense):
    model, vectors, dense = build(config, dim, num_dense)
    with torch.no_grad():  # weights that start at zero pass no gradient on
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    vectors.requires_grad_()
    dense.requires_grad_(num_dense > 0)
    model(vectors, dense).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
    assert (vectors.grad != 0).any(0).all()
    assert num_dense == 0 or (dense.grad != 0).any(0).all()


@each_model
def test_samples_do_not_see_each_other_in_evaluation(config, dim, num_dense):
    model, vectors, dense = build(config, dim, num_dense)
    model.eval()
    alone = torch.cat([model(vectors[i : i + 1], dense[i : i + 1]) for i in range(BATCH)])
    torch.testing.assert_close(model(vectors, dense), alone)


@each_model
def test_the_same_seed_gives_the_same_logits(config, dim, num_dense):
    first, vectors, dense = build(config, dim, num_dense)
    second, _, _ = build(config, dim, num_dense)
    assert torch.equal(first.eval()(vectors, dense), second.eval()(vectors, dense))


def test_autoint_refuses_fields_of_two_widths_and_names_them():
    with pytest.raises(RecsysError, match="b has 8"):
        AutoIntConfig().build([Field("a", 4), Field("b", 8)], 0)


def test_autoint_refuses_raw_numericals():
    with pytest.raises(RecsysError, match="numerical=vector"):
        AutoIntConfig().build([Field("a", 4)], 2)


def test_logistic_regression_refuses_wide_vectors():
    with pytest.raises(RecsysError, match="embedding_dim=1"):
        LogisticRegressionConfig().build([Field("a", 4)], 0)


def test_dcn_v2_takes_fields_of_any_widths():
    model = DCNv2Config().build([Field("a", 4), Field("b", 7)], 2)
    assert model(torch.randn(3, 11), torch.randn(3, 2)).shape == (3,)
