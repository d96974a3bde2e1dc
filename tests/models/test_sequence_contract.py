"""What every model of histories promises, tried on each member of the union."""

from typing import get_args

import pytest
import torch

from recsys.layers.history import History
from recsys.models import ModelConfig
from recsys.models.base import Field, HistoryShape, SequenceModelConfig
from recsys.models.din import DINConfig
from recsys.models.mean_pooling import MeanPoolingConfig
from recsys.models.two_stage import DAREConfig, SIMHardConfig, TWINConfig
from tests.histories import LENGTHS, gradients, random_history

PAIR = {"target": ["item", "category"], "history": ["items", "categories"]}
ONE, TWO = {"pairs": [PAIR], "hidden_dims": (8, 4)}, {"pairs": [PAIR] * 2, "hidden_dims": (8,)}
EXAMPLES = [
    MeanPoolingConfig(**TWO, target_aware=True),
    DINConfig(**ONE, attention_hidden_dims=(6,), softmax=False, target_aware=False),
    DINConfig(**TWO, attention_hidden_dims=(6, 3), top_k=3, activation="prelu"),
    SIMHardConfig(**ONE, category="category", top_k=3),
    TWINConfig(**ONE, top_k=3, batch_norm=True),
    TWINConfig(**TWO, position_dim=None),
    DAREConfig(**ONE, top_k=3),
    DAREConfig(**TWO, top_k=3, attention_position_dim=2, activation="dice"),
]
each_model = pytest.mark.parametrize("config", EXAMPLES, ids=lambda config: config.name)
FIELDS = [Field("user", 3), Field("item", 2), Field("category", 2)]
BATCH = len(LENGTHS)


def build(config, max_length=6):
    torch.manual_seed(0)
    attention_dims = (2, 1) if config.attention == "required" else (2, 2)
    shape = HistoryShape((2, 2), attention_dims, max_length)
    model = config.build(FIELDS, 1, [shape] * len(config.pairs))
    generator = torch.Generator().manual_seed(1)
    vectors = torch.randn(BATCH, 7, generator=generator).requires_grad_()
    dense = torch.randn(BATCH, 1, generator=generator).requires_grad_()
    return model, vectors, dense, [history_of(config, seed) for seed in range(len(config.pairs))]


def history_of(config, seed):
    attention_dim = 3 if config.attention == "required" else None
    history = random_history(attention_dim=attention_dim, seed=seed)
    with torch.no_grad():  # categories that a target shares with its behaviors
        history.vectors[::2, 2:] = history.target[:, 2:][history.rows[::2]]
    return history


def row_of(history, row):
    """The history of one row of the batch."""
    mine, one = history.rows == row, slice(row, row + 1)
    attention = history.attention_vectors
    return History(
        history.vectors[mine],
        history.lengths[one],
        history.target[one],
        history.max_length,
        None if attention is None else attention[mine],
        None if attention is None else history.attention_target[one],
    )


def test_every_model_of_histories_has_an_example():
    models = get_args(get_args(ModelConfig)[0])
    sequence_models = {model for model in models if issubclass(model, SequenceModelConfig)}
    assert {type(config) for config in EXAMPLES} == sequence_models


@each_model
def test_every_parameter_and_input_receives_a_gradient(config):
    model, vectors, dense, histories = build(config)
    with torch.no_grad():  # weights that start at zero pass no gradient on
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    loss = model(vectors, dense, *histories).square().sum()
    if getattr(model, "auxiliary_weight", 0):
        loss = sum(
            head.square().sum() for head in model.forward_with_auxiliary(vectors, dense, *histories)
        )
    loss.backward()
    silent = [name for name, p in model.named_parameters() if not p.grad.abs().sum() > 0]
    assert not silent
    for gradient in (vectors.grad, dense.grad, *(g for h in histories for g in gradients(h))):
        assert (gradient != 0).any(0).all()


@each_model
def test_samples_do_not_see_each_other_in_evaluation(config):
    model, vectors, dense, histories = build(config)
    model.eval()
    alone = [
        model(vectors[i : i + 1], dense[i : i + 1], *(row_of(h, i) for h in histories))
        for i in range(BATCH)
    ]
    torch.testing.assert_close(model(vectors, dense, *histories), torch.cat(alone))


@each_model
def test_the_same_seed_gives_the_same_bits(config):
    results = []
    for _ in range(2):
        model, vectors, dense, histories = build(config)
        logits = model(vectors, dense, *histories)
        logits.sum().backward()
        results.append([logits, vectors.grad, *(g for h in histories for g in gradients(h))])
    for one, other in zip(*results, strict=True):
        assert one is other is None or torch.equal(one, other)


@each_model
def test_attention_weights_say_what_is_pooled(config):
    model, vectors, dense, histories = build(config)
    model.eval()
    for pair, history in enumerate(histories):
        weights = model.attention_weights(history, pair)
        assert weights.shape == (sum(LENGTHS),)
        logits = model(vectors, dense, *histories)
        unseen = history.vectors.detach() + 5.0 * (weights == 0)[:, None]
        if config.name == "dare":  # the others search by these very vectors
            changed = [*histories[:pair], history.with_vectors(unseen), *histories[pair + 1 :]]
            torch.testing.assert_close(model(vectors, dense, *changed), logits)


@each_model
def test_batches_as_wide_as_their_longest_history_score_the_same(config):
    model, vectors, dense, histories = build(config, max_length=8)
    model.eval()
    narrow = [
        History(h.vectors, h.lengths, h.target, 5, h.attention_vectors, h.attention_target)
        for h in histories
    ]
    torch.testing.assert_close(model(vectors, dense, *narrow), model(vectors, dense, *histories))


@each_model
def test_a_batch_without_any_behavior_is_scored_and_trained(config):
    model, vectors, dense, _ = build(config)
    attention_dim = 3 if config.attention == "required" else None
    histories = [
        random_history(lengths=[0] * BATCH, max_length=0, attention_dim=attention_dim)
        for _ in config.pairs
    ]
    logits = model(vectors, dense, *histories)
    logits.sum().backward()
    assert logits.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
