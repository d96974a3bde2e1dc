"""The list of table optimizers: each class says all that the stores, memory and planner ask."""

from collections.abc import Sequence
from copy import deepcopy
from typing import Annotated, Literal, get_args

import pytest
import torch
from pydantic import Field, TypeAdapter
from torch import nn

from recsys.compat.torchrec import RowWiseAdagrad
from recsys.data.jagged_ids import JaggedIds
from recsys.embeddings.build import build_embeddings
from recsys.embeddings.config import EmbeddingsConfig
from recsys.embeddings.memory import Optimizers, count_bytes
from recsys.embeddings.methods.full_table import FullTableConfig
from recsys.embeddings.optimizers import TABLE_OPTIMIZERS, TableOptimizer, TableOptimizerConfig
from recsys.embeddings.optimizers.rowwise_adagrad import RowwiseAdagrad
from recsys.errors import RecsysError
from recsys.schema import Feature, Schema

CPU = torch.device("cpu")
FEATURE = Feature(name="a", kind="categorical", column="a", cardinality=11)
SCHEMA = Schema(name="x", features=(FEATURE,), splits={})
IDS = JaggedIds(["a"], torch.tensor([1, 2, 2], dtype=torch.int32), torch.ones(3, dtype=torch.int32))


class MomentumConfig(TableOptimizerConfig):
    """SGD with momentum: one class is all that a table optimizer takes."""

    name: Literal["momentum"] = "momentum"
    momentum: float = 0.9

    def state_floats(self, dim: int) -> int:
        return dim

    def plain(self, parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, lr=self.learning_rate, momentum=self.momentum)


# the one line: the class in the union
WITH_MOMENTUM = Annotated[
    get_args(TableOptimizer)[0] | MomentumConfig,
    Field(discriminator="name"),
]


def momentum() -> TableOptimizerConfig:
    content = {"name": "momentum", "learning_rate": 0.1}
    return TypeAdapter(WITH_MOMENTUM).validate_python(content)


def config(store: str) -> EmbeddingsConfig:
    return EmbeddingsConfig(default=FullTableConfig(embedding_dim=6), store=store)


def test_a_new_optimizer_is_accepted_in_a_config():
    assert isinstance(momentum(), MomentumConfig)
    with pytest.raises(ValueError, match="momentum"):
        TypeAdapter(WITH_MOMENTUM).validate_python({"name": "momentun", "learning_rate": 0.1})


def test_a_new_optimizer_trains_the_plain_store():
    embeddings = build_embeddings(config("plain"), SCHEMA, momentum(), CPU)
    embeddings.store.initialize(seed=0)
    weights = [embeddings.store.weights()["a"].clone()]
    for _ in range(2):
        embeddings.zero_grad()
        embeddings(embeddings.physical_ids(IDS))[0].fields.sum().backward()
        embeddings.store.step()
        weights.append(embeddings.store.weights()["a"].clone())
    first, second = weights[0] - weights[1], weights[1] - weights[2]
    torch.testing.assert_close(first[1:3], torch.tensor([[0.1], [0.2]]).expand(2, 6))
    torch.testing.assert_close(second, 1.9 * first)


def test_the_state_of_a_new_optimizer_is_counted():
    methods = build_embeddings(config("plain"), SCHEMA, momentum(), CPU).methods
    counted = count_bytes(methods, config("plain"), Optimizers(momentum(), "sgd"), {})
    assert counted.train_bytes == 11 * (6 + 6) * 4


def test_an_optimizer_without_a_fused_form_is_refused_by_the_fused_store():
    with pytest.raises(RecsysError) as error:
        build_embeddings(config("fused"), SCHEMA, momentum(), CPU)
    for words in ("momentum", "cpu", "rowwise_adagrad or sgd", "embeddings.store: plain"):
        assert words in str(error.value)


@pytest.mark.parametrize("kind", TABLE_OPTIMIZERS)
def test_state_floats_are_what_the_plain_form_keeps(kind):
    weight = nn.Parameter(torch.ones(7, 4))
    chosen = kind(learning_rate=0.1)
    optimizer = chosen.plain([weight])
    rows = torch.arange(7)
    embedded = nn.functional.embedding(rows, weight, sparse=chosen.has_sparse_gradients)
    embedded.square().sum().backward()
    optimizer.step()
    kept = [value for name, value in optimizer.state[weight].items() if name != "step"]
    floats = sum(value.numel() for value in kept if isinstance(value, torch.Tensor))
    assert floats == 7 * chosen.state_floats(4)


def test_rowwise_adagrad_equals_torchrecs_bit_for_bit():
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(9, 12, generator=generator)
    ours, theirs = (nn.Parameter(start.clone()) for _ in range(2))
    optimizers = RowwiseAdagrad([ours], lr=0.03, eps=1e-8), RowWiseAdagrad([theirs], 0.03, eps=1e-8)
    for step in range(5):
        gradient = torch.randn(9, 12, generator=generator) * (torch.rand(9, 1) < 0.7)
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        for optimizer in optimizers:
            optimizer.param_groups[0]["lr"] = 0.03 / (1 + step)
            optimizer.step()
        assert torch.equal(ours, theirs)
    kept, wanted = optimizers[0].state[ours], optimizers[1].state[theirs]
    assert kept.keys() == wanted.keys()
    assert all(torch.equal(kept[name], wanted[name]) for name in kept)


def test_rowwise_adagrad_reads_the_state_that_torchrecs_wrote():
    weights = [nn.Parameter(torch.ones(3, 4)) for _ in range(2)]
    theirs = RowWiseAdagrad([weights[0]], 0.1, eps=1e-8)
    ours = RowwiseAdagrad([weights[1]], lr=0.1, eps=1e-8)
    weights[0].grad = torch.full((3, 4), 0.5)
    theirs.step()
    ours.load_state_dict(deepcopy(theirs.state_dict()))
    with torch.no_grad():
        weights[1].copy_(weights[0])
    weights[1].grad = weights[0].grad
    for optimizer in (theirs, ours):
        optimizer.step()
    assert torch.equal(*weights)
