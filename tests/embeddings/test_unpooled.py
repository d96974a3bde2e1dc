"""Methods that do not commute with sum pooling: unpooled lookups, combined, then pooled."""

from typing import Literal

import pytest
import torch

from recsys.data.jagged_ids import JaggedIds
from recsys.embeddings.collection import FeatureEmbeddings
from recsys.embeddings.lookups import unpooled_lookups
from recsys.embeddings.methods.base import EmbeddingKey, EmbeddingMethod
from recsys.embeddings.methods.full_table import FullTableConfig
from recsys.embeddings.optimizers import RowwiseAdagradConfig, SgdConfig
from recsys.embeddings.table_spec import Lookup, NormalInit, TableSpec
from recsys.embeddings.tables.build import GroupSpec, build_store
from recsys.schema import Feature

CARDINALITY, DIM = 12, 4
IDS = {
    "color": [[1], [2], [2]],
    "tags": [[0, 5, 11], [], [7, 7]],  # repeated in one bag
    "item": [[5], [0], [11]],  # reads the tables of `tags`
}


class Product(EmbeddingMethod):
    """The vector of id i is q[i // 4] · r[i mod 4], element by element."""

    name = "product"
    commutes_with_sum = False

    def __init__(self, feature: str, table: str) -> None:
        super().__init__()
        self.cardinality, self.output_dim = CARDINALITY, DIM
        self.lookups = (Lookup(f"{feature}/q", f"{table}/q"), Lookup(f"{feature}/r", f"{table}/r"))

    def tables(self):
        rows = {"q": 3, "r": 4}
        return tuple(
            TableSpec(look.table, rows[look.table[-1]], DIM, NormalInit(std=1.0))
            for look in self.lookups
        )

    def rows(self, ids):
        return ids // 4, ids % 4

    def combine(self, vectors):
        return vectors[0] * vectors[1]


def build(store: Literal["fused", "plain"], mean=(), optimizer=None) -> FeatureEmbeddings:
    methods = {
        "color": FullTableConfig(embedding_dim=DIM).build("color", CARDINALITY, "color"),
        "tags": Product("tags", "tags"),
        "item": Product("item", "tags"),
    }
    tables = {t.name: t for method in methods.values() for t in method.tables()}
    optimizer = optimizer or SgdConfig(learning_rate=0.1)
    features = [
        Feature(
            name=name,
            kind="sequence" if name == "tags" else "categorical",
            column=name,
            cardinality=CARDINALITY,
        )
        for name in methods
    ]
    methods = {EmbeddingKey(name): method for name, method in methods.items()}
    groups = {"pooled": [EmbeddingKey("color")], "unpooled": list(methods)[1:]}
    unpooled = {key: methods[key] for key in groups["unpooled"]}
    lookups = {
        "pooled": methods[EmbeddingKey("color")].lookups,
        "unpooled": unpooled_lookups(list(tables.values()), unpooled),
    }
    specs = {name: GroupSpec(each, optimizer) for name, each in lookups.items()}
    built = build_store(store, list(tables.values()), specs, torch.device("cpu"))
    embeddings = FeatureEmbeddings(features, methods, groups, mean, built)
    built.initialize(seed=0)
    return embeddings


def batch(ids=IDS) -> JaggedIds:
    bags = [bag for feature in ids.values() for bag in feature]
    return JaggedIds(
        keys=list(ids),
        values=torch.tensor([i for bag in bags for i in bag], dtype=torch.int32),
        lengths=torch.tensor([len(bag) for bag in bags], dtype=torch.int32),
    )


each_store = pytest.mark.parametrize("store", ["fused", "plain"])


@each_store
@pytest.mark.parametrize("mean", [(), ("tags",)], ids=["sum", "mean"])
def test_vectors_are_pooled_after_they_are_combined(store, mean):
    embeddings = build(store, mean)
    vectors = embeddings(embeddings.physical_ids(batch()))[0].fields
    for column, (name, bags) in enumerate(IDS.items()):
        table = embeddings.materialize(name)
        for row, bag in enumerate(bags):
            expected = table[bag].sum(0) / (max(len(bag), 1) if name in mean else 1)
            got = vectors[row, column * DIM : (column + 1) * DIM]
            torch.testing.assert_close(got, expected)


@each_store
@pytest.mark.parametrize("optimizer", [SgdConfig, RowwiseAdagradConfig])
def test_updates_equal_autograd_over_the_same_tables(store, optimizer):
    """The reference sums q·r over each bag in plain tensors; one step of the same optimiser."""
    embeddings = build(store, optimizer=optimizer(learning_rate=0.1))
    weights = {n: w.clone().requires_grad_() for n, w in embeddings.store.weights().items()}
    vectors = embeddings(embeddings.physical_ids(batch()))[0].fields
    vectors.square().sum().backward()
    embeddings.store.step()

    loss = 0.0
    for name, bags in IDS.items():
        for bag in bags:
            ids = torch.tensor(bag, dtype=torch.long)
            if name == "color":
                rows = weights["color"][ids]
            else:
                rows = weights["tags/q"][ids // 4] * weights["tags/r"][ids % 4]
            loss = loss + rows.sum(0).square().sum()
    loss.backward()
    for name, weight in embeddings.store.weights().items():
        gradient = weights[name].grad
        if optimizer is RowwiseAdagradConfig:
            accumulated = gradient.square().mean(1, keepdim=True)
            gradient = gradient / (accumulated.sqrt() + 1e-8)
        expected = weights[name].detach() - 0.1 * gradient
        torch.testing.assert_close(weight, expected, rtol=1e-5, atol=1e-6)


@each_store
def test_a_batch_without_a_single_id_gives_zeros(store):
    embeddings = build(store)
    ids = {"color": [[1], [1]], "tags": [[], []], "item": [[0], [0]]}
    vectors = embeddings(embeddings.physical_ids(batch(ids)))[0].fields
    assert torch.equal(vectors[:, DIM : 2 * DIM], torch.zeros(2, DIM))


@each_store
def test_a_batch_without_rows_gives_none(store):
    embeddings = build(store)
    empty = JaggedIds(
        keys=list(IDS),
        values=torch.empty(0, dtype=torch.int32),
        lengths=torch.empty(0, dtype=torch.int32),
        stride=0,
    )
    vectors = embeddings(embeddings.physical_ids(empty))[0].fields
    assert vectors.shape == (0, 3 * DIM)
