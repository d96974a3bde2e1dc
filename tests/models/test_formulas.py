"""Each model against its paper's formula, written out independently with einsum or by hand."""

import math

import pytest
import torch

from recsys.layers.cross import CrossNetwork
from recsys.layers.fields import NumericalEmbedding
from recsys.layers.self_attention import InteractingLayer
from recsys.models.autoint import AutoIntConfig
from recsys.models.base import Field
from recsys.models.dcn_v2 import DCNv2Config
from recsys.models.logistic_regression import LogisticRegressionConfig

PAPER = {
    "projection_bias": False,
    "projection_relu": False,
    "scale_scores": False,
    "attention_dropout": 0.0,
    "layer_norm": "none",
    "residual": "projection",
}


def test_logistic_regression_adds_weights_values_and_bias():
    model = LogisticRegressionConfig().build([Field("a", 1), Field("b", 1)], 1)
    with torch.no_grad():
        model.dense_weights.fill_(2.0)
        model.bias.fill_(0.25)
    logits = model(torch.tensor([[0.5, -1.0]]), torch.tensor([[3.0]]))
    assert logits.item() == pytest.approx(0.5 - 1.0 + 2.0 * 3.0 + 0.25)


def test_a_cross_layer_equals_equation_1_by_hand():
    cross = CrossNetwork(2, num_layers=1)
    with torch.no_grad():
        cross.layers[0].weight.copy_(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
        cross.layers[0].bias.copy_(torch.tensor([0.5, -0.5]))
    # x = (1, 2): W x + b = (5.5, 10.5); x ⊙ that + x = (6.5, 23)
    assert cross(torch.tensor([[1.0, 2.0]])).tolist() == [[6.5, 23.0]]


def test_two_cross_layers_multiply_the_first_input_again():
    cross = CrossNetwork(1, num_layers=2)
    with torch.no_grad():
        for layer, weight in zip(cross.layers, (2.0, 3.0), strict=True):
            layer.weight.fill_(weight)
            layer.bias.zero_()
    # x0 = 2; x1 = 2·(2·2) + 2 = 10; x2 = 2·(3·10) + 10 = 70
    assert cross(torch.tensor([[2.0]])).item() == 70.0


def test_a_low_rank_cross_layer_equals_the_full_one_of_its_product():
    low = CrossNetwork(5, num_layers=1, low_rank=2)
    full = CrossNetwork(5, num_layers=1)
    inner, outer = low.layers[0]
    with torch.no_grad():
        full.layers[0].weight.copy_(outer.weight @ inner.weight)
        full.layers[0].bias.copy_(outer.bias)
    features = torch.randn(4, 5)
    torch.testing.assert_close(low(features), full(features))


@pytest.mark.parametrize("structure", ["parallel", "stacked"])
def test_dcn_v2_puts_cross_and_mlp_together_as_in_figure_1(structure):
    model = DCNv2Config(structure=structure, hidden_dims=(4,)).build([Field("a", 3)], 0)
    x = torch.randn(2, 3)
    crossed = model.cross(x)
    mlp = torch.relu(model.mlp[0](crossed if structure == "stacked" else x))
    scored = mlp if structure == "stacked" else torch.cat([crossed, mlp], 1)
    torch.testing.assert_close(model(x, torch.zeros(2, 0)), model.head(scored)[:, 0])


def attention_by_einsum(layer: InteractingLayer, fields: torch.Tensor, **options) -> torch.Tensor:
    """Equations 5–8 head by head, with the official code's departures as options."""
    heads, width = layer.num_heads, layer.head_dim
    activation = torch.relu if options["projection_relu"] else (lambda x: x)
    query, key, value = (activation(p(fields)) for p in layer.query_key_value)
    outputs = []
    for head in range(heads):
        columns = slice(head * width, (head + 1) * width)
        scores = torch.einsum("bmd,bkd->bmk", query[..., columns], key[..., columns])
        if options["scale_scores"]:
            scores = scores / math.sqrt(width)
        exponentials = scores.exp()
        weights = exponentials / exponentials.sum(-1, keepdim=True)
        outputs.append(torch.einsum("bmk,bkd->bmd", weights, value[..., columns]))
    attended = torch.relu(torch.cat(outputs, -1) + activation(layer.residual(fields)))
    if options["layer_norm"] == "after_relu":
        mean = attended.mean(-1, keepdim=True)
        variance = ((attended - mean) ** 2).mean(-1, keepdim=True)
        attended = (attended - mean) / torch.sqrt(variance + 1e-8)
    return attended


@pytest.mark.parametrize(
    "departure",
    [
        {},
        {"projection_bias": True},
        {"projection_relu": True},
        {"scale_scores": True},
        {"layer_norm": "after_relu"},
        {
            "projection_bias": True,
            "projection_relu": True,
            "scale_scores": True,
            "layer_norm": "after_relu",
        },
    ],
)
def test_an_interacting_layer_equals_equations_5_to_8(departure):
    torch.manual_seed(0)
    options = {**PAPER, **departure}
    layer = InteractingLayer(4, 6, 2, **options)
    if options["projection_bias"]:
        for linear in (*layer.query_key_value, layer.residual):
            torch.nn.init.normal_(linear.bias)
    fields = torch.randn(3, 5, 4)
    torch.testing.assert_close(layer(fields), attention_by_einsum(layer, fields, **options))


def test_attention_weights_of_the_paper_are_not_scaled():
    layer = InteractingLayer(1, 1, 1, **{**PAPER, "residual": "none"})
    with torch.no_grad():
        for linear in layer.query_key_value:
            linear.weight.fill_(1.0)
    fields = torch.tensor([[[1.0], [2.0]]])
    weight = math.exp(2.0) / (math.exp(1.0) + math.exp(2.0))  # field 1 looks at field 2
    expected = (1 - weight) * 1.0 + weight * 2.0
    assert layer(fields)[0, 0].item() == pytest.approx(expected)


def test_attention_dropout_drops_only_in_training():
    torch.manual_seed(0)
    layer = InteractingLayer(4, 4, 2, **{**PAPER, "attention_dropout": 0.5})
    fields = torch.randn(2, 6, 4)
    assert not torch.equal(layer(fields), layer(fields))
    layer.eval()
    assert torch.equal(layer(fields), layer(fields))


def test_layer_norm_before_relu_leaves_no_negative_value():
    layer = InteractingLayer(4, 4, 2, **{**PAPER, "layer_norm": "before_relu"})
    assert (layer(torch.randn(2, 6, 4)) >= 0).all()


@pytest.mark.parametrize(
    ("place", "eps", "formula"),
    [
        # FuxiCTR's MultiHeadSelfAttention: nn.LayerNorm(attention_dim), then relu
        ("before_relu", 1e-5, lambda norm, x: norm(x).clamp(min=0)),
        # the authors' multihead_attention: relu, then normalize(epsilon=1e-8)
        ("after_relu", 1e-8, lambda norm, x: norm(x.clamp(min=0))),
    ],
)
@pytest.mark.parametrize("std", [1.0, 0.01, 1e-4])
def test_layer_norm_equals_its_sources_formula_at_small_inputs(place, eps, formula, std):
    torch.manual_seed(0)
    layer = InteractingLayer(4, 4, 2, **{**PAPER, "layer_norm": place})
    plain = InteractingLayer(4, 4, 2, **PAPER)
    plain.load_state_dict(layer.state_dict(), strict=False)
    fields = std * torch.randn(8, 6, 4)

    def normalized(x):
        variance, mean = torch.var_mean(x, dim=-1, correction=0, keepdim=True)
        return (x - mean) / (variance + eps).sqrt()

    heads = [plain._heads(project(fields)) for project in plain.query_key_value]
    attended = (torch.softmax(heads[0] @ heads[1].mT, -1) @ heads[2]).transpose(1, 2).flatten(2)
    expected = formula(normalized, attended + plain._residual(fields))
    torch.testing.assert_close(layer(fields), expected, rtol=1e-4, atol=1e-5)


def test_autoint_plus_adds_the_mlps_logit():
    torch.manual_seed(0)
    plus = AutoIntConfig(attention_dim=4, hidden_dims=(8,)).build([Field("a", 4)] * 3, 0)
    vectors, dense = torch.randn(2, 12), torch.zeros(2, 0)
    mlp = plus.mlp
    plus.mlp = None
    attention_logits = plus(vectors, dense)
    plus.mlp = mlp
    torch.testing.assert_close(plus(vectors, dense), attention_logits + mlp(vectors)[:, 0])


def test_autoint_has_the_papers_number_of_parameters():
    # per layer 3·d·d'·H and d·d'·H for the residual; the head reads M·d'·H values
    config = AutoIntConfig(num_layers=2, num_heads=2, attention_dim=64)
    model = config.build([Field(str(i), 16) for i in range(39)], 0)
    expected = 4 * 16 * 64 + 4 * 64 * 64 + 39 * 64 + 1
    assert sum(p.numel() for p in model.parameters()) == expected


def test_numerical_vectors_are_value_times_vector():
    embedding = NumericalEmbedding(2, 3)
    values = torch.tensor([[2.0, -1.0]])
    expected = torch.cat([2.0 * embedding.vectors[0], -1.0 * embedding.vectors[1]])
    torch.testing.assert_close(embedding(values)[0], expected)
