"""DARE, TWIN and SIM's hard search against loops over rows and behaviors."""

import math

import pytest
import torch

from recsys.config.base import validate
from recsys.errors import RecsysError
from recsys.models.base import Field, HistoryShape
from recsys.models.two_stage import DAREConfig, SIMHardConfig, TWINConfig
from tests.histories import gradients, random_history

PAIR = {"target": ["item", "category"], "history": ["items", "categories"]}
FIELDS = [Field("user", 3), Field("item", 2), Field("category", 2)]
SMALL = {"pairs": [PAIR], "top_k": 2, "position_dim": 3, "hidden_dims": (8, 4)}
SMALL |= {"auxiliary_hidden_dims": (5,)}


def build(config, attention_dims=(2, 2), max_length=6):
    torch.manual_seed(0)
    model = config.build(FIELDS, 1, [HistoryShape((2, 2), attention_dims, max_length)])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model, torch.randn(5, 7, requires_grad=True), torch.randn(5, 1)


def plain_scores(history, row, rank_vectors):
    """A row's scores, oldest behavior first."""
    own = history.rows == row
    keys, ranks = history.keys[own], history.ranks[own].tolist()
    query = history.query[row]
    scores = []
    for key, rank in zip(keys, ranks, strict=True):
        score = torch.dot(key, query) / math.sqrt(len(query))
        if rank_vectors is not None:
            position = torch.dot(rank_vectors[rank], rank_vectors[0])
            score = score + position / math.sqrt(rank_vectors.shape[1])
        scores.append(score)
    return scores


def plain_pooled(history, row, found, scores, positions):
    """Σ softmax(scores) · [vector, position] over the places in `found`."""
    vectors, ranks = history.vectors[history.rows == row], history.ranks[history.rows == row]
    if not found:
        return torch.zeros(vectors.shape[1] + (0 if positions is None else positions.shape[1]))
    exponentials = [torch.exp(scores[place]) for place in found]
    pooled = 0.0
    for place, exponential in zip(found, exponentials, strict=True):
        vector = vectors[place]
        if positions is not None:
            vector = torch.cat([vector, positions[int(ranks[place])]])
        pooled = pooled + exponential / sum(exponentials) * vector
    return pooled


def plain_mlp(mlp, features):
    for layer in mlp:
        if isinstance(layer, torch.nn.Linear):
            features = layer.weight @ features + layer.bias
        else:
            features = torch.where(features > 0, features, layer.weight * features)
    return features[0]


def plain_two_stage(model, config, vectors, dense, history, finds):
    """Logits of both heads; `finds(row, scores)` → places that the search finds in a row."""
    (attention,) = model.attention
    positions = None if attention.positions is None else attention.positions.weight
    apart = attention.attention_positions
    scored = positions if apart is None else apart.weight
    logits = []
    for row in range(len(history.lengths)):
        scores = plain_scores(history, row, scored)
        target = history.target[row]
        if positions is not None:
            target = torch.cat([target, positions[0]])
        heads = []
        everything = list(range(len(scores)))
        for tail, found in ((model.tail, finds(row, scores)), (model.auxiliary_tail, everything)):
            h = plain_pooled(history, row, found, scores, positions)
            products = [h * target] if config.target_aware else []
            features = torch.cat([vectors[row], h, *products, dense[row]])
            heads.append(plain_mlp(tail.mlp, features))
        logits.append(torch.stack(heads))
    return torch.stack(logits).unbind(1)


def highest(k):
    return lambda _row, scores: sorted(range(len(scores)), key=lambda i: -scores[i].item())[:k]


def assert_equals_plain(config, finds, make_history, attention_dims=(2, 2)):
    model, vectors, dense = build(config, attention_dims)
    plain_model, plain_vectors, _ = build(config, attention_dims)
    history, copy = make_history(), make_history()
    both = model.forward_with_auxiliary(vectors, dense, history)
    expected = plain_two_stage(
        plain_model, config, plain_vectors, dense, copy, lambda r, s: finds(copy, r, s)
    )
    torch.testing.assert_close(both, expected)
    torch.testing.assert_close(model(vectors, dense, history), expected[0])
    upstream = torch.randn(2, 5)
    (torch.stack(both) * upstream).sum().backward()
    (torch.stack(expected) * upstream).sum().backward()
    got = [vectors.grad, *gradients(history), *(p.grad for p in model.parameters())]
    want = [plain_vectors.grad, *gradients(copy), *(p.grad for p in plain_model.parameters())]
    for one, other in zip(got, want, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def by_score(_history, row, scores):
    return highest(2)(row, scores)


@pytest.mark.parametrize("attention_position_dim", [None, 5])
@pytest.mark.parametrize("attention_dims", [(2, 2), (1, 2)])
@pytest.mark.parametrize("target_aware", [True, False])
def test_dare_equals_its_definition(attention_dims, attention_position_dim, target_aware):
    config = DAREConfig(
        **SMALL, attention_position_dim=attention_position_dim, target_aware=target_aware
    )
    assert_equals_plain(
        config,
        by_score,
        lambda: random_history(attention_dim=sum(attention_dims)),
        attention_dims,
    )


@pytest.mark.parametrize("options", [{}, {"position_dim": None}, {"target_aware": False}])
def test_twin_scores_by_the_vectors_that_it_pools(options):
    assert_equals_plain(TWINConfig(**{**SMALL, **options}), by_score, random_history)


def category_history():
    """Categories (columns 2 and 3) of three kinds; row 3 has none of its target's."""
    history = random_history(lengths=(4, 0, 6, 1, 2))
    kinds = torch.tensor([[0.5, -1.0], [1.5, 2.0], [0.5, 2.0]])
    with torch.no_grad():
        history.vectors[:, 2:] = kinds[[0, 0, 1, 0, 2, 1, 1, 2, 1, 1, 0, 2, 1]]
        history.target[:, 2:] = kinds[[0, 1, 1, 2, 1]]
    return history


def most_recent_of_category(history, row, scores):
    keys = history.vectors[history.rows == row]
    same = [i for i in range(len(scores)) if torch.equal(keys[i, 2:], history.target[row, 2:])]
    return same[-2:]


def test_sim_hard_finds_the_most_recent_of_the_targets_category():
    config = SIMHardConfig(**SMALL, category="category")
    assert_equals_plain(config, most_recent_of_category, category_history)
    model, _, _ = build(config)
    ranks, _ = model.retrieve(category_history(), 3)
    assert ranks.tolist() == [[1, 3, 4], [0, 0, 0], [1, 2, 4], [0, 0, 0], [1, 0, 0]]
    weights = model.attention_weights(category_history())
    assert (weights > 0).nonzero()[:, 0].tolist() == [1, 3, 8, 9, 12]


def test_dare_searches_by_its_attention_vectors_alone():
    model, _, _ = build(DAREConfig(**SMALL))
    history = random_history(attention_dim=4)
    ranks, scores = model.retrieve(history, 4)
    for row in range(5):
        own = plain_scores(history, row, model.attention[0].attention_positions.weight)
        order = highest(4)(row, own)
        missing = 4 - len(order)
        assert ranks[row].tolist() == [len(own) - place for place in order] + [0] * missing
        found = torch.tensor([own[place].item() for place in order])
        torch.testing.assert_close(scores[row, : len(order)], found)
    with torch.no_grad():
        history.vectors.mul_(-3.0)
    assert torch.equal(model.retrieve(history, 4)[0], ranks)


def test_a_search_of_everything_is_the_second_heads_history():
    model, vectors, dense = build(
        DAREConfig(**{**SMALL, "top_k": 6, "auxiliary_hidden_dims": (8, 4)})
    )
    model.auxiliary_tail.load_state_dict(model.tail.state_dict())
    both = model.forward_with_auxiliary(vectors, dense, random_history(attention_dim=4))
    torch.testing.assert_close(*both)


def test_decoupled_positions_are_two_tables_and_shared_ones_are_one():
    shapes = {"attention.0.positions.weight": (7, 3)}
    for config, more in (
        (TWINConfig(**SMALL), {}),
        (DAREConfig(**SMALL), {"attention.0.attention_positions.weight": (7, 3)}),
        (
            DAREConfig(**SMALL, attention_position_dim=2),
            {"attention.0.attention_positions.weight": (7, 2)},
        ),
    ):
        model, _, _ = build(config)
        tables = {n: tuple(p.shape) for n, p in model.named_parameters() if "positions" in n}
        assert tables == {**shapes, **more}


def test_the_published_input_with_its_constant_column_gives_the_same_logits():
    """The authors put the target's position in front of the tail too, behind a BatchNorm."""
    config = DAREConfig(**SMALL, input_batch_norm=True)
    model, _, _ = build(config)
    history = random_history(attention_dim=4)
    targets = history.target
    norm, first, *rest = model.tail.mlp
    attention = model.attention[0]
    scores = attention.scores(history)
    h = attention.pool(scores, history, attention.found(scores, history))
    v = torch.cat([targets, attention.positions.target.expand(5, -1)], 1)
    features = torch.cat([v, h, h * v], 1)  # as published: (B, 3 · 7)
    standard = (features - features.mean(0)) / torch.sqrt(features.var(0, correction=0) + 1e-5)
    ours = torch.ones(21).bool()
    ours[4:7] = False  # the constant columns, of which batch norm leaves zeros
    assert standard[:, ~ours].abs().max() < 1e-3
    weights = torch.randn(8, 21)
    with torch.no_grad():  # the model's tail has the fields (user, target), the dense column
        norm.weight[[*range(3), -1]] = 0
        norm.bias[[*range(3), -1]] = 0
        norm.weight[3:-1], norm.bias[3:-1] = 1, 0
        first.weight[:, 3:-1] = weights[:, ours]
    published = standard @ weights.T + first.bias
    for layer in rest:
        published = layer(published)
    vectors = torch.cat([torch.randn(5, 3), targets], 1)
    torch.testing.assert_close(
        model(vectors, torch.randn(5, 1), history), published[:, 0], rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize("lengths", [(0, 0), ()])
def test_rows_without_any_history_are_scored(lengths):
    model, _, _ = build(DAREConfig(**SMALL))
    history = random_history(lengths=lengths, attention_dim=4)
    inputs = torch.randn(len(lengths), 7), torch.randn(len(lengths), 1)
    both = model.forward_with_auxiliary(*inputs, history)
    sum(head.sum() for head in both).backward()
    assert all(head.isfinite().all() and head.shape == (len(lengths),) for head in both)
    assert model.retrieve(history, 2)[0].tolist() == [[0, 0]] * len(lengths)


def test_no_auxiliary_weight_means_no_second_head():
    model, _, _ = build(TWINConfig(**{**SMALL, "auxiliary_weight": 0}))
    assert model.auxiliary_weight == 0
    assert not [name for name, _ in model.named_parameters() if "auxiliary" in name]


def test_two_runs_have_the_same_bits():
    bits = []
    for _ in range(2):
        model, vectors, dense = build(DAREConfig(**SMALL))
        history = random_history(attention_dim=4)
        sum(model.forward_with_auxiliary(vectors, dense, history)).sum().backward()
        bits.append([p.grad for p in model.parameters()] + gradients(history))
    assert all(torch.equal(one, other) for one, other in zip(*bits, strict=True))


def test_the_width_of_a_batchs_blocks_changes_nothing():
    """A batch is as wide as its longest history, or that of another pair."""
    model, vectors, dense = build(DAREConfig(**SMALL))
    logits = [
        model(vectors, dense, random_history(attention_dim=4, max_length=longest))
        for longest in (5, 6, 9)
    ]
    torch.testing.assert_close(logits[0], logits[1])
    torch.testing.assert_close(logits[2], logits[1])


def test_ranks_without_a_bound_are_refused():
    with pytest.raises(
        RecsysError, match=r"(?s)needs the max_length.*items, categories.*position_dim: null"
    ):
        build(TWINConfig(**SMALL), max_length=None)
    build(TWINConfig(**{**SMALL, "position_dim": None}), max_length=None)


def test_sim_hard_refuses_a_category_that_is_no_target():
    content = {"name": "sim_hard", "pairs": [PAIR], "category": "brand"}
    with pytest.raises(RecsysError, match="brand is not one of item, category"):
        validate(SIMHardConfig, content, "x.yaml")
