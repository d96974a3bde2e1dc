"""DIN against a plain padded implementation that concatenates as the paper draws it."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from recsys.config.base import validate
from recsys.errors import RecsysError
from recsys.models.base import Field, HistoryShape
from recsys.models.din import DINConfig
from recsys.models.mean_pooling import MeanPoolingConfig
from tests.histories import gradients, mask, padded, random_history

PAIR = {"target": ["item", "category"], "history": ["items", "categories"]}
FIELDS = [Field("user", 3), Field("item", 2), Field("category", 2)]
SHAPE = HistoryShape((2, 2), (2, 2), 6)


def build(config, num_pairs=1):
    torch.manual_seed(0)
    model = config.build(FIELDS, 1, [SHAPE] * num_pairs)
    with torch.no_grad():  # biases, slopes and moving averages that could hide a mistake
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
        for buffer in model.buffers():
            if buffer.is_floating_point():
                buffer.add_(torch.rand_like(buffer))
    vectors = torch.randn(5, 7, requires_grad=True)
    return model, vectors, torch.randn(5, 1)


def plain_dice(layer, values, statistics):
    """`statistics` (N, dim): what the batch's mean and variance are taken of; None: stored ones."""
    if statistics is None:
        mean, variance = layer.running_mean, layer.running_var
    else:
        mean, variance = statistics.mean(0), statistics.var(0, correction=0)
    gate = torch.sigmoid((values - mean) / torch.sqrt(variance + 1e-9))
    return gate * values + layer.alpha * (1 - gate) * values


def plain_activation(config_name, layer, values, statistics):
    if config_name == "dice":
        return plain_dice(layer, values, statistics)
    plain = {
        "relu": torch.relu,
        "sigmoid": torch.sigmoid,
        "prelu": lambda x: torch.where(x > 0, x, layer.weight * x),
    }
    return plain[config_name](values)


def plain_attention(unit, history, config, is_training):
    """(B, T) scores; padded positions go through the MLP like all others."""
    keys, present = padded(history.vectors, history), mask(history)
    query = history.target[:, None].expand_as(keys)
    hidden = torch.cat([query, keys, query - keys, query * keys], -1)  # (B, T, 4D)
    for layer in unit.mlp:
        if isinstance(layer, torch.nn.Linear):
            hidden = hidden @ layer.weight.T + layer.bias
            continue
        counted = (
            hidden[present] if config.dice_statistics == "behaviours" else hidden.flatten(0, 1)
        )
        statistics = counted if is_training else None
        hidden = plain_activation(config.attention_activation, layer, hidden, statistics)
    return hidden.squeeze(-1)


def plain_pooled(unit, history, config, is_training):
    scores, present = plain_attention(unit, history, config, is_training), mask(history)
    if config.scale_scores:
        scores = scores / history.target.shape[1] ** 0.5
    if config.softmax:
        scores = torch.softmax(scores.masked_fill(~present, -1e9), 1)
    return (padded(history.vectors, history) * (scores * present)[..., None]).sum(1)


def plain_tail(tail, config, features, is_training):
    for layer in tail.mlp:
        if isinstance(layer, torch.nn.Linear):
            features = features @ layer.weight.T + layer.bias
        else:
            statistics = features if is_training else None
            features = plain_activation(config.activation, layer, features, statistics)
    return features[:, 0]


def plain_din(model, config, vectors, dense, histories):
    parts = [vectors]
    for attention, history in zip(model.attention, histories, strict=True):
        pooled = plain_pooled(attention.unit, history, config, model.training)
        parts += [pooled, pooled * history.target] if config.target_aware else [pooled]
    return plain_tail(model.tail, config, torch.cat([*parts, dense], 1), model.training)


def assert_equals_plain(config, num_pairs, is_training):
    model, vectors, dense = build(config, num_pairs)
    model.train(is_training)
    expected_model, expected_vectors, _ = build(config, num_pairs)
    expected_model.train(is_training)
    histories = [random_history(seed=pair) for pair in range(num_pairs)]
    copies = [random_history(seed=pair) for pair in range(num_pairs)]
    logits = model(vectors, dense, *histories)
    expected = plain_din(expected_model, config, expected_vectors, dense, copies)
    torch.testing.assert_close(logits, expected)
    upstream = torch.randn(5)
    logits.backward(upstream)
    expected.backward(upstream)
    got = [vectors.grad, *(p.grad for p in model.parameters())]
    want = [expected_vectors.grad, *(p.grad for p in expected_model.parameters())]
    for history, copy in zip(histories, copies, strict=True):
        got += gradients(history)
        want += gradients(copy)
    for one, other in zip(got, want, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=2e-5)


PAPER = {"softmax": False, "target_aware": False}
OPTIONS = [
    {**PAPER, "attention_activation": "relu", "activation": "relu"},
    {
        **PAPER,
        "attention_activation": "sigmoid",
        "activation": "prelu",
        "attention_hidden_dims": (5, 3),
    },
    {"attention_activation": "prelu", "target_aware": False},
    {"scale_scores": True, "attention_hidden_dims": (5, 3)},
    {**PAPER, "attention_hidden_dims": (5, 3)},
    {**PAPER, "dice_statistics": "padded"},
    {"dice_statistics": "padded", "attention_hidden_dims": (5, 3), "target_aware": False},
    {**PAPER, "attention_hidden_dims": (), "hidden_dims": ()},
]


@pytest.mark.parametrize("is_training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("num_pairs", [1, 2])
@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(map(str, o.values())))
def test_din_and_its_gradients_equal_the_textbooks(options, num_pairs, is_training):
    options = {"attention_hidden_dims": (6,), "hidden_dims": (8, 4), **options}
    config = DINConfig(pairs=[PAIR] * num_pairs, **options)
    assert_equals_plain(config, num_pairs, is_training)


@pytest.mark.parametrize("statistics", ["behaviours", "padded"])
def test_moving_averages_are_of_the_positions_that_were_counted(statistics):
    config = DINConfig(pairs=[PAIR], attention_hidden_dims=(6,), dice_statistics=statistics)
    model, vectors, dense = build(config)
    history = random_history()
    linear, dice = model.attention[0].unit.mlp[:2]
    before = dice.running_mean.clone(), dice.running_var.clone()
    model(vectors, dense, history)
    keys = padded(history.vectors, history)
    query = history.target[:, None].expand_as(keys)
    hidden = linear(torch.cat([query, keys, query - keys, query * keys], -1))
    counted = hidden[mask(history)] if statistics == "behaviours" else hidden.flatten(0, 1)
    expected = 0.99 * before[0] + 0.01 * counted.mean(0), 0.99 * before[1] + 0.01 * counted.var(0)
    torch.testing.assert_close((dice.running_mean, dice.running_var), expected)


def test_padded_statistics_are_of_the_data_sets_length_whatever_the_batchs():
    config = DINConfig(pairs=[PAIR], attention_hidden_dims=(6,), dice_statistics="padded")
    averages = []
    for longest in (5, 6):  # one row has 5
        model, vectors, dense = build(config)
        model(vectors, dense, random_history(max_length=longest))
        averages.append(model.attention[0].unit.mlp[1].running_mean)
    torch.testing.assert_close(*averages)
    with pytest.raises(RecsysError, match=r"(?s)needs the max_length.*pairs.0: items, categories"):
        config.build(FIELDS, 1, [HistoryShape((2, 2), (2, 2), None)])


def test_the_first_linear_has_the_textbooks_shape():
    model, _, _ = build(DINConfig(pairs=[PAIR], attention_hidden_dims=(6,)))
    assert model.attention[0].unit.mlp[0].weight.shape == (6, 4 * 4)


def test_weights_sum_to_one_unless_the_papers_sum_is_asked_for():
    history = random_history()
    for options in ({}, PAPER):
        model, _, _ = build(DINConfig(pairs=[PAIR], **options))
        sums = padded(model.attention_weights(history), history).sum(1)
        assert torch.allclose(sums, (history.lengths > 0).float()) == (options != PAPER)


def test_the_default_starts_near_mean_pooling_whatever_the_length():
    torch.manual_seed(0)
    model = DINConfig(pairs=[PAIR]).build(FIELDS, 1, [HistoryShape((2, 2), (2, 2), 40)])
    history = random_history(lengths=[1, 5, 40, 40, 2], max_length=40)
    small = replace(history, vectors=0.01 * history.vectors, target=0.01 * history.target)
    uniform = 1.0 / history.lengths[history.rows]
    torch.testing.assert_close(model.attention_weights(small), uniform, rtol=0.05, atol=0)


def test_top_k_leaves_the_others_no_weight():
    history = random_history()
    whole, searched = (
        build(DINConfig(pairs=[PAIR], softmax=True, top_k=k))[0].eval() for k in (None, 2)
    )
    ranks, scores = whole.retrieve(history, 2)
    weights = padded(searched.attention_weights(history), history)
    assert (weights > 0).sum(1).tolist() == [2, 0, 2, 1, 2]
    columns = (history.lengths[:, None] - ranks).clamp(max=5)  # ranks count from the last
    expected = torch.softmax(scores.clamp(min=-1e9), 1) * (ranks > 0)
    torch.testing.assert_close(weights.gather(1, columns) * (ranks > 0), expected)


@pytest.mark.parametrize("lengths", [(0, 0), ()])
def test_din_scores_rows_without_any_history(lengths):
    model, _, _ = build(DINConfig(pairs=[PAIR]))
    history = random_history(lengths=lengths)
    vectors = torch.randn(len(lengths), 7, requires_grad=True)
    logits = model(vectors, torch.randn(len(lengths), 1), history)
    logits.sum().backward()
    assert logits.shape == (len(lengths),)
    assert logits.isfinite().all()
    assert history.vectors.grad.shape == (0, 4)
    assert vectors.grad.isfinite().all()


def test_two_runs_have_the_same_bits():
    bits = []
    for _ in range(2):
        model, vectors, dense = build(DINConfig(pairs=[PAIR]))
        history = random_history(lengths=[40] * 5, max_length=40)
        model(vectors, dense, history).sum().backward()
        bits.append([p.grad for p in model.parameters()] + [history.vectors.grad, vectors.grad])
    assert all(torch.equal(one, other) for one, other in zip(*bits, strict=True))


def test_mean_pooling_is_the_mean_of_each_history():
    config = MeanPoolingConfig(pairs=[PAIR], hidden_dims=(8,), target_aware=True)
    model, vectors, dense = build(config)
    history = random_history()
    count = history.lengths.clamp(min=1)[:, None]
    mean = padded(history.vectors, history).sum(1) / count
    features = torch.cat([vectors, mean, mean * history.target, dense], 1)
    logits = model(vectors, dense, history)
    torch.testing.assert_close(logits, plain_tail(model.tail, config, features, True))
    weights = padded(model.attention_weights(history), history)
    torch.testing.assert_close(weights, mask(history) / count)


def test_batch_norm_stands_in_front_of_the_tail_and_in_its_layers():
    config = DINConfig(
        pairs=[PAIR],
        hidden_dims=(8,),
        activation="relu",
        batch_norm=True,
        input_batch_norm=True,
        target_aware=False,
    )
    model, vectors, dense = build(config)
    kinds = [type(layer).__name__ for layer in model.tail.mlp]
    assert kinds == ["BatchNorm", "Linear", "BatchNorm", "ReLU", "Linear"]
    norm, first, inner, _, last = model.tail.mlp
    history = random_history()
    pooled = plain_pooled(model.attention[0].unit, history, config, True)
    features = torch.cat([vectors, pooled, dense], 1)

    def normalise(layer, x):
        return F.batch_norm(x, None, None, layer.weight, layer.bias, training=True)

    expected = last(torch.relu(normalise(inner, first(normalise(norm, features)))))
    torch.testing.assert_close(model(vectors, dense, history), expected[:, 0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dice_statistics": "all"}, "'behaviours' or 'padded'"),
        (
            {"attention_activation": "gelu"},
            "unknown attention_activation 'gelu'\\n.*\\n.*relu, prelu, dice, sigmoid",
        ),
        (
            {"dice_statistics": "padded", "attention_activation": "relu"},
            "attention_activation dice, and not with relu",
        ),
        ({"pairs": []}, "at least 1"),
        ({"pairs": [{"target": ["item"], "history": ["items", "x"]}]}, "as many features"),
        ({"use_softmax": True}, "unknown key 'use_softmax'"),
    ],
)
def test_wrong_choices_are_refused(options, message):
    with pytest.raises(RecsysError, match=message):
        validate(DINConfig, {"name": "din", "pairs": [PAIR], **options}, "x.yaml")
