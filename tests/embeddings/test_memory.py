"""Bytes by hand, and against what stores and optimisers really hold; budgets that are exceeded."""

import re

import pytest
import torch
from pydantic import TypeAdapter
from torch import nn

from recsys.config.base import validate
from recsys.config.dense_optimizers import DENSE_OPTIMIZERS, DenseOptimizerConfig
from recsys.embeddings.build import build_embeddings
from recsys.embeddings.config import EmbeddingsConfig
from recsys.embeddings.feature_methods import build_methods
from recsys.embeddings.memory import (
    Optimizers,
    check_budget,
    count_bytes,
)
from recsys.embeddings.methods.base import EmbeddingKey, EmbeddingMethod
from recsys.embeddings.methods.full_table import FullTable, FullTableConfig
from recsys.embeddings.optimizers import (
    AdamConfig,
    RowwiseAdagradConfig,
    SgdConfig,
    TableOptimizer,
    TableOptimizerConfig,
)
from recsys.embeddings.table_spec import Lookup, NormalInit, TableSpec
from recsys.errors import RecsysError
from recsys.history_pair import HistoryPair
from recsys.schema import Feature, Schema

CPU = torch.device("cpu")


class Toy(EmbeddingMethod):
    """5 ids → rows of 6 floats of a table, a 6 × 8 matrix, a fixed threshold, an int16 remap."""

    name = "toy"

    def __init__(self, feature: str, table: str) -> None:
        super().__init__()
        self.cardinality, self.output_dim = 5, 8
        self.table = TableSpec(table, 3, 6, NormalInit())
        self.lookups = (Lookup(feature, table),)
        self.matrix = nn.Parameter(torch.zeros(6, 8))
        self.threshold = nn.Parameter(torch.zeros(1), requires_grad=False)
        self.register_buffer("remap", torch.zeros(5, dtype=torch.int16), persistent=False)

    def tables(self):
        return (self.table,)

    def rows(self, ids):
        return (self.remap[ids],)

    def combine(self, vectors):
        return vectors[0] @ self.matrix


def config(**options) -> EmbeddingsConfig:
    return EmbeddingsConfig(default=FullTableConfig(embedding_dim=16), **options)


def full(feature: str, rows: int, dim: int, table: str | None = None) -> FullTable:
    return FullTable(feature, rows, dim, table or feature, NormalInit())


def count(methods, tables="sgd", dense="sgd", projections=None, **options):
    methods = {EmbeddingKey(name): method for name, method in methods.items()}
    optimizers = Optimizers(table_optimizer(tables), dense)
    return count_bytes(methods, config(**options), optimizers, projections or {})


def table_optimizer(name: str) -> TableOptimizerConfig:
    return TypeAdapter(TableOptimizer).validate_python({"name": name, "learning_rate": 0.1})


def test_rows_weights_and_buffers_by_hand():
    counted = count({"a": Toy("a", "a")}, "rowwise_adagrad", "adam")
    facts = counted.features["a"]
    assert (facts.table_bytes, facts.parameter_bytes) == (3 * 6 * 4, (6 * 8 + 1) * 4)
    assert (facts.projection_bytes, facts.buffer_bytes) == (0, 5 * 2)
    assert counted.serve_bytes == facts.serve_bytes == 72 + 196 + 10
    # rows padded to 8 and their accumulator; two moments for the matrix, none for the threshold
    assert counted.train_bytes == facts.train_bytes == 3 * (8 + 1) * 4 + 196 + 10 + 2 * 48 * 4
    assert (facts.method, facts.cardinality, facts.dim) == ("toy", 5, 8)


def test_the_baseline_is_a_full_table_of_the_default_width():
    counted = count({"a": Toy("a", "a"), "b": full("b", 10, 4)})
    assert counted.features["a"].full_table_bytes == 5 * 16 * 4
    assert counted.full_table_bytes == (5 + 10) * 16 * 4
    assert counted.share_of_full_tables == (72 + 196 + 10 + 10 * 4 * 4) / (15 * 16 * 4)
    assert count({}).share_of_full_tables is None


def test_a_shared_table_is_charged_to_its_first_reader():
    methods = {"a": full("a", 9, 4), "b": Toy("b", "one"), "c": Toy("c", "one"), "d": Toy("d", "d")}
    counted = count(methods)
    assert [counted.features[name].table_bytes for name in methods] == [144, 72, 0, 72]
    assert [counted.features[name].parameter_bytes for name in "bcd"] == [196] * 3  # their own
    assert list(counted.shared_tables) == ["one"]
    shared = counted.shared_tables["one"]
    assert (shared.charged_to, shared.readers) == ("b", ("b", "c"))
    assert (shared.serve_bytes, shared.train_bytes) == (72, 3 * 8 * 4)


@pytest.mark.parametrize("owner", ["a", "b"])
def test_features_that_share_ids_share_their_baseline(owner):
    methods = {name: full(name, 9, 16, table=owner) for name in "ab"}
    counted = count(methods, features={"ab".replace(owner, ""): {"shares_table_with": owner}})
    assert counted.full_table_bytes == counted.serve_bytes == 9 * 16 * 4
    assert counted.features["b"].serve_bytes == counted.features["b"].full_table_bytes == 0


def test_attention_has_a_baseline_of_its_own():
    """A model with two embeddings of each id would hold two full tables."""
    schema = Schema(
        name="x",
        splits={},
        features=tuple(
            Feature(name=name, kind=kind, column=name, cardinality=10)
            for name, kind in (("item", "categorical"), ("history", "sequence"))
        ),
    )
    content = {
        "default": {"method": "full_table", "embedding_dim": 8},
        "features": {"history": {"shares_table_with": "item"}},
        "roles": {"search": {"default": {"method": "full_table", "embedding_dim": 2}}},
    }
    config = validate(EmbeddingsConfig, content, "test")
    pairs = [HistoryPair(target=("item",), history=("history",))]
    found = count_bytes(
        build_methods(config, schema, pairs), config, Optimizers(table_optimizer("sgd"), "sgd"), {}
    )
    assert found.full_table_bytes == 2 * 10 * 8 * 4
    assert found.serve_bytes == 10 * (8 + 2) * 4
    assert found.features["history@attention"].full_table_bytes == 0


def test_a_weight_that_two_features_share_is_charged_once():
    first, second = Toy("a", "a"), Toy("b", "b")
    second.matrix, second.remap = first.matrix, first.remap
    counted = count({"a": first, "b": second})
    assert counted.features["b"].parameter_bytes == 4  # its threshold
    assert counted.features["b"].buffer_bytes == 0


def test_the_matrix_to_the_models_width_is_its_features():
    alone, projected = (
        count({"a": Toy("a", "a"), "b": full("b", 9, 8)}, "sgd", "adagrad", given)
        for given in ({}, {"b": 8 * 16})
    )
    assert projected.features["b"].projection_bytes == 8 * 16 * 4
    assert projected.serve_bytes == alone.serve_bytes + 8 * 16 * 4
    assert projected.train_bytes == alone.train_bytes + 2 * 8 * 16 * 4  # and its accumulator


@pytest.mark.parametrize("name", DENSE_OPTIMIZERS)
def test_dense_state_is_what_the_optimizer_keeps(name):
    weight = nn.Parameter(torch.ones(7, 3))
    optimizer = DenseOptimizerConfig(name=name, learning_rate=0.1).build([weight])
    weight.square().sum().backward()
    optimizer.step()
    kept = [value for key, value in optimizer.state[weight].items() if key != "step"]
    floats = sum(v.numel() for v in kept if isinstance(v, torch.Tensor))
    assert floats == DENSE_OPTIMIZERS[name].state_floats * weight.numel()


@pytest.mark.parametrize("store", ["fused", "plain"])
@pytest.mark.parametrize("optimizer", [RowwiseAdagradConfig, SgdConfig, AdamConfig])
@pytest.mark.parametrize("dim", [6, 8])
def test_train_bytes_of_tables_are_what_the_store_holds(store, optimizer, dim):
    if (store, optimizer) == ("fused", AdamConfig):
        pytest.skip("the fused Adam is for GPUs")
    chosen = EmbeddingsConfig(default=FullTableConfig(embedding_dim=dim), store=store)
    features = (Feature(name="a", kind="categorical", column="a", cardinality=11),)
    schema = Schema(name="x", features=features, splits={})
    embeddings = build_embeddings(chosen, schema, optimizer(learning_rate=0.1), CPU)
    for plain in embeddings.store.optimizers():  # its state appears with the first step
        for group in plain.param_groups:
            for weight in group["params"]:
                weight.grad = torch.ones_like(weight)
        plain.step()
    state = dict(embeddings.store.state())
    for plain in embeddings.store.optimizers():
        for weight, kept in plain.state.items():
            state |= {(id(weight), k): v for k, v in kept.items() if k not in ("step", "iter")}
    held = {value.data_ptr(): value.nbytes for value in state.values()}
    names = Optimizers(optimizer(learning_rate=0.1), "sgd")
    counted = count_bytes(embeddings.methods, chosen, names, {})
    assert counted.train_bytes == sum(held.values())


BUDGETED = {"big": full("big", 1000, 16), "small": full("small", 10, 16)}  # 64,000 and 640 B


def test_a_config_within_its_budget_passes():
    for budget in (None, "64640B", "1MB"):
        check_budget(count(BUDGETED), config(budget=budget))


def test_a_config_beyond_its_budget_is_refused_with_every_features_bytes():
    methods = {"small": BUDGETED["small"], "big": BUDGETED["big"], "more": full("more", 4, 16)}
    with pytest.raises(RecsysError) as caught:
        check_budget(count(methods), config(budget="60KB"))
    message = str(caught.value)
    assert "take 4.9 kB more than their budget" in message
    assert "at most 60KB to serve" in message
    shown = re.findall(r"^ +(\w+) +([\d.]+ k?B)  full_table, ([\d,]+) ids, dim 16$", message, re.M)
    assert shown == [
        ("big", "64 kB", "1,000"),
        ("small", "640 B", "10"),
        ("more", "256 B", "4"),
    ]
    fitting = re.search(r"embeddings\.budget: (\w+)", message)[1]
    check_budget(count(methods), config(budget=fitting))


def test_a_budget_of_training_counts_the_optimisers_state():
    counted = count(BUDGETED, "adam")
    check_budget(counted, config(budget="65KB"))
    with pytest.raises(RecsysError, match="at most 65KB to train"):
        check_budget(counted, config(budget="65KB", budget_of="train"))


def test_a_refusal_says_who_pays_for_a_shared_table():
    methods = {"b": Toy("b", "one"), "c": Toy("c", "one")}
    with pytest.raises(RecsysError, match=r"in b: the table 'one', 72 B, which b, c read"):
        check_budget(count(methods), config(budget="9B"))


@pytest.mark.parametrize("budget", ["64", 64, "lots", "0MB"])
def test_a_budget_that_is_no_size_is_refused(budget):
    with pytest.raises(RecsysError, match=r"(?s)is not a valid size.*embeddings\.budget"):
        config(budget=budget)


def test_a_budget_is_written_as_it_was_read():
    again = validate(EmbeddingsConfig, config(budget="64 MiB").model_dump(mode="json"), "x")
    assert (again.budget, again.budget_bytes) == ("64 MiB", 64 * 2**20)
