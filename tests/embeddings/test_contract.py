"""What every embedding method promises, tried on each member of the union on both stores."""

from typing import get_args

import pytest
import torch

from recsys.data.batch import RowLookups
from recsys.data.jagged_ids import JaggedIds
from recsys.embeddings.build import build_embeddings
from recsys.embeddings.collection import FeatureEmbeddings
from recsys.embeddings.config import EmbeddingsConfig
from recsys.embeddings.memory import Optimizers, count_bytes
from recsys.embeddings.methods import MethodConfig
from recsys.embeddings.optimizers import RowwiseAdagradConfig, SgdConfig
from recsys.embeddings.table_spec import NormalInit
from recsys.embeddings.tables.base import padded_dim
from recsys.schema import Feature, Schema
from tests.embeddings.examples import CARDINALITY, DIM, EXAMPLES

STORES = ["fused", "plain"]
DEVICE = torch.device("cpu")  # tests/gpu runs the same tests on another


def schema_of(kind: str) -> Schema:
    features = tuple(
        Feature(name=name, kind=kind, column=name, cardinality=CARDINALITY) for name in ("a", "b")
    )
    return Schema(name="x", features=features, splits={})


def build(
    method, store="plain", kind="categorical", optimizer=None, **options
) -> FeatureEmbeddings:
    config = EmbeddingsConfig(default=method, store=store, **options)
    optimizer = optimizer or RowwiseAdagradConfig(learning_rate=0.1)
    torch.manual_seed(0)  # what a method learns beside its tables
    embeddings = build_embeddings(config, schema_of(kind), optimizer, DEVICE)
    embeddings.store.initialize(seed=0)
    return embeddings


def bags(values: list[list[list[int]]]) -> JaggedIds:
    """values[feature][sample] is a list of ids."""
    return JaggedIds(
        keys=["a", "b"],
        values=torch.tensor([i for f in values for s in f for i in s], dtype=torch.int32),
        lengths=torch.tensor([len(s) for f in values for s in f], dtype=torch.int32),
    )


def look_up(embeddings: FeatureEmbeddings, ids: JaggedIds) -> torch.Tensor:
    return embeddings(on_device(embeddings.physical_ids(ids)))[0].fields


def on_device(asked: dict[str, RowLookups]) -> dict[str, RowLookups]:
    return {name: rows.to(DEVICE) for name, rows in asked.items()}


SINGLE = [[[0], [3], [49], [3]], [[1], [2], [2], [40]]]
MULTI = [[[0, 5], [], [49, 3, 3], [1]], [[], [2], [7, 8], [9]]]


def test_every_method_has_an_example():
    methods = get_args(get_args(MethodConfig)[0])
    assert {type(example) for example in EXAMPLES} == set(methods)


each_method = pytest.mark.parametrize("method", EXAMPLES, ids=lambda m: m.method)
each_store = pytest.mark.parametrize("store", STORES)


@each_method
@each_store
def test_vectors_are_rows_of_the_materialized_table(method, store):
    embeddings = build(method, store)
    vectors = look_up(embeddings, bags(SINGLE))
    assert vectors.shape == (4, 2 * DIM)
    for column, feature in enumerate(("a", "b")):
        table = embeddings.materialize(feature)
        assert table.shape == (CARDINALITY, DIM)
        ids = [bag[0] for bag in SINGLE[column]]
        torch.testing.assert_close(vectors[:, column * DIM : (column + 1) * DIM], table[ids])


@each_method
@each_store
@pytest.mark.parametrize("pooling", ["sum", "mean"])
def test_multi_valued_features_pool_their_rows(method, store, pooling):
    embeddings = build(method, store, kind="sequence", features={"*": {"pooling": pooling}})
    vectors = look_up(embeddings, bags(MULTI))
    for column, feature in enumerate(("a", "b")):
        table = embeddings.materialize(feature)
        for sample, ids in enumerate(MULTI[column]):
            expected = table[ids].sum(0) / (max(len(ids), 1) if pooling == "mean" else 1)
            got = vectors[sample, column * DIM : (column + 1) * DIM]
            torch.testing.assert_close(got, expected)


@each_method
@pytest.mark.parametrize("kind", ["categorical", "sequence"])
@pytest.mark.parametrize(
    "optimizer", [RowwiseAdagradConfig(learning_rate=0.1), SgdConfig(learning_rate=0.1)]
)
def test_fused_updates_equal_the_plain_oracle(method, kind, optimizer):
    ids = bags(SINGLE if kind == "categorical" else MULTI)
    target = torch.randn(4, 2 * DIM, generator=torch.Generator().manual_seed(1)).to(DEVICE)
    trained = {}
    for store in STORES:
        embeddings = build(method, store, kind, optimizer)
        for _ in range(5):
            for step in embeddings.store.optimizers():
                step.zero_grad()
            (look_up(embeddings, ids) - target).square().sum().backward()
            for step in embeddings.store.optimizers():
                step.step()
        trained[store] = embeddings.store.weights()
    for name, weight in trained["plain"].items():
        # fbgemm adds the squares of a row in another order: single precision apart
        torch.testing.assert_close(trained["fused"][name], weight, rtol=1e-5, atol=1e-6)


@each_method
@each_store
def test_rows_that_are_not_looked_up_do_not_move(method, store):
    embeddings = build(method, store)
    before = {name: weight.clone() for name, weight in embeddings.store.weights().items()}
    physical = embeddings.physical_ids(bags(SINGLE))
    embeddings(on_device(physical))[0].fields.square().sum().backward()
    for step in embeddings.store.optimizers():
        step.step()
    table_of = {look.key: look.table for look in embeddings.store.groups["pooled"].lookups}
    for name, weight in embeddings.store.weights().items():
        moved = (weight != before[name]).any(1).nonzero().flatten().tolist()
        looked_up = physical["pooled"].rows
        rows = [looked_up[key].values() for key, table in table_of.items() if table == name]
        assert set(moved) <= set(torch.cat(rows).tolist())
        assert moved


@each_method
def test_same_seed_gives_the_same_weights_in_both_stores(method):
    fused, plain = build(method, "fused").store.weights(), build(method, "plain").store.weights()
    assert all(torch.equal(fused[name], plain[name]) for name in plain)


@each_method
def test_row_numbers_stay_inside_their_tables(method):
    built = method.build("a", CARDINALITY, "a")
    sizes = {table.name: table.num_rows for table in built.tables()}
    for look, rows in zip(built.lookups, built.rows(torch.arange(CARDINALITY)), strict=True):
        assert rows.min() >= 0
        assert rows.max() < sizes[look.table]


@each_method
def test_counted_bytes_are_tables_weights_and_buffers(method):
    embeddings = build(method)
    config = EmbeddingsConfig(default=method)
    names = Optimizers(RowwiseAdagradConfig(learning_rate=0.1), "adam")
    counted = count_bytes(embeddings.methods, config, names, {})
    tables, modules = embeddings.store.weights().values(), embeddings.method_modules
    others = sum(t.nbytes for t in [*modules.parameters(), *modules.buffers()])
    moments = sum(2 * w.nbytes for w in modules.parameters() if w.requires_grad)
    padded = sum(len(w) * (padded_dim(w.shape[1]) + 1) * 4 for w in tables)
    assert counted.serve_bytes == sum(w.numel() * 4 for w in tables) + others
    assert counted.train_bytes == padded + others + moments


@each_method
@each_store
def test_an_empty_batch_gives_no_rows(method, store):
    embeddings = build(method, store)
    assert look_up(embeddings, bags([[], []])).shape == (0, 2 * DIM)


@each_method
def test_initial_variance_equals_a_full_tables(method):
    wide = method.model_copy(update={"embedding_dim": 512, "init": NormalInit(std=0.5)})
    assert build(wide).materialize("a").std().item() == pytest.approx(0.5, rel=0.1)
