"""The unified method against its definition (Coleman et al. 2023, §3), and its baseline."""

import pytest
import torch

from recsys.config.base import validate
from recsys.data.jagged_ids import JaggedIds
from recsys.embeddings.build import build_embeddings
from recsys.embeddings.config import EmbeddingsConfig
from recsys.embeddings.id_mapping.hashing import feature_salt, hash_rows
from recsys.embeddings.methods.base import EmbeddingKey
from recsys.embeddings.methods.full_table import FullTableConfig
from recsys.embeddings.methods.hashed import HashedConfig
from recsys.embeddings.methods.unified import UnifiedConfig
from recsys.embeddings.optimizers import SgdConfig
from recsys.embeddings.table_spec import NormalInit, UniformInit
from recsys.errors import RecsysError
from recsys.schema import Feature, HashEncoding, Schema, VocabularyEncoding
from tests.embeddings.criteo import CRITEO

CPU, SGD = torch.device("cpu"), SgdConfig(learning_rate=1.0)
SIZES = {"a": 1000, "b": 1000, "small": 5}


def schema_of(sizes) -> Schema:
    features = tuple(
        Feature(
            name=name,
            kind="categorical",
            column=name,
            cardinality=size,
            encoding=VocabularyEncoding(file="one.parquet"),
        )
        for name, size in sizes.items()
    )
    return Schema(name="x", features=features, splits={})


def build(default, sizes=SIZES, store="plain", **options):
    config = EmbeddingsConfig.model_validate({"default": default, "store": store, **options})
    embeddings = build_embeddings(config, schema_of(sizes), SGD, CPU)
    embeddings.store.initialize(0)
    return embeddings


def unified(**options):
    return {"method": "unified", "embedding_dim": 6, "num_rows": 40, "num_chunks": 3, **options}


def test_a_vector_is_the_concatenation_of_its_hashed_rows():
    method = UnifiedConfig(embedding_dim=6, num_rows=40, num_chunks=3).build("a", 100, "a")
    table, ids = torch.randn(40, 2), torch.arange(100)
    expected = [table[hash_rows(ids, feature_salt("a") + k, 40)] for k in range(3)]
    torch.testing.assert_close(method.materialize({"unified": table}), torch.cat(expected, 1))


def test_sum_adds_the_rows_and_keeps_the_variance():
    config = UnifiedConfig(
        embedding_dim=6, num_rows=40, num_chunks=4, combine="sum", init=NormalInit(std=1.0)
    )
    method = config.build("a", 100, "a")
    assert method.tables()[0].init == NormalInit(std=0.5)
    table, ids = torch.randn(40, 6), torch.arange(100)
    expected = sum(table[hash_rows(ids, feature_salt("a") + k, 40)] for k in range(4))
    torch.testing.assert_close(method.materialize({"unified": table}), expected)


def test_an_identity_table_shows_the_rows():
    method = UnifiedConfig(embedding_dim=40 * 3, num_rows=40, num_chunks=3).build("a", 100, "a")
    vectors = method.materialize({"unified": torch.eye(40)}).view(100, 3, 40)
    for chunk, rows in enumerate(method.rows(torch.arange(100))):
        assert vectors[:, chunk].argmax(1).tolist() == rows.tolist()
        assert (vectors[:, chunk].sum(1) == 1).all()


def test_the_parameters_are_one_table_whatever_the_features():
    for sizes in (SIZES, {"a": 7}, CRITEO):
        embeddings = build(unified(), sizes)
        assert {n: w.shape for n, w in embeddings.store.weights().items()} == {"unified": (40, 2)}


def test_hashed_values_need_no_vocabulary():
    feature = Feature(
        name="raw",
        kind="categorical",
        column="raw",
        cardinality=2**31 - 1,
        encoding=HashEncoding(),
    )
    schema = Schema(name="x", features=(feature,), splits={})
    config = EmbeddingsConfig.model_validate({"default": unified()})
    embeddings = build_embeddings(config, schema, SGD, CPU)
    assert {n: w.shape for n, w in embeddings.store.weights().items()} == {"unified": (40, 2)}
    values = torch.tensor([0, 2**31 - 2], dtype=torch.int32)
    ids = JaggedIds(keys=["raw"], values=values, lengths=torch.ones(2, dtype=torch.int32))
    assert embeddings(embeddings.physical_ids(ids))[0].fields.shape == (2, 6)


def test_rows_are_drawn_from_plus_minus_0_05_by_default():
    assert UnifiedConfig(embedding_dim=6, num_rows=40).init == UniformInit(bound=0.05)


def test_features_may_have_different_widths():
    embeddings = build(unified(), features={"b": unified(embedding_dim=2, num_chunks=1)})
    widths = {key.name: dim for key, dim in embeddings.output_dims.items()}
    assert widths == {"a": 6, "b": 2, "small": 6}
    assert list(embeddings.store.weights()) == ["unified"]


def test_other_features_do_not_change_a_features_rows():
    alone = build(unified(), {"b": 1000}).methods[EmbeddingKey("b")]
    among = build(unified(), {"x": 9, "b": 1000, "a": 7}).methods[EmbeddingKey("b")]
    ids = torch.arange(1000)
    for rows, expected in zip(among.rows(ids), alone.rows(ids), strict=True):
        assert torch.equal(rows, expected)


def test_equal_ids_of_two_features_have_other_rows():
    method_a = UnifiedConfig(embedding_dim=2, num_rows=1000).build("a", 100_000, "a")
    method_b = UnifiedConfig(embedding_dim=2, num_rows=1000).build("b", 100_000, "b")
    ids = torch.arange(100_000)
    equal = (method_a.rows(ids)[0] == method_b.rows(ids)[0]).double().mean()
    assert abs(equal - 1 / 1000) < 0.0005  # standard deviation 0.0001


@pytest.mark.parametrize(
    "options",
    [
        {"default": unified(salt="token")},
        {"default": unified(), "features": {"b": {"shares_table_with": "a"}}},
    ],
)
def test_features_of_one_vocabulary_may_share_their_rows(options):
    methods = build(**options).methods
    a, b = methods[EmbeddingKey("a")], methods[EmbeddingKey("b")]
    ids = torch.arange(1000)
    for rows, expected in zip(b.rows(ids), a.rows(ids), strict=True):
        assert torch.equal(rows, expected)


def test_small_features_stay_exact():
    embeddings = build(unified(exact_below=5))
    assert {n: w.shape for n, w in embeddings.store.weights().items()} == {
        "unified": (40, 2),
        "small": (5, 6),
    }
    assert embeddings.methods[EmbeddingKey("small")].is_plain_table


def test_there_may_be_several_shared_tables():
    embeddings = build(unified(), features={"b": unified(table="other", num_rows=7)})
    assert {n: len(w) for n, w in embeddings.store.weights().items()} == {"unified": 40, "other": 7}


@pytest.mark.parametrize(
    ("other", "expected", "got"),
    [
        ({"num_rows": 50}, "40 rows of 2 floats", "50 rows of 2 floats"),
        ({"embedding_dim": 12}, "40 rows of 2 floats", "40 rows of 4 floats"),
        ({"init": {"distribution": "uniform", "bound": 0.1}}, "bound=0.05", "bound=0.1"),
    ],
)
def test_two_shapes_or_starts_of_one_table_are_refused(other, expected, got):
    message = rf"a and b cannot share the table 'unified'(.|\n)*{expected}(.|\n)*{got}"
    with pytest.raises(RecsysError, match=message):
        build(unified(), features={"b": unified(**other)})


def test_chunks_that_do_not_fill_the_vector_are_refused():
    with pytest.raises(RecsysError, match=r"embedding_dim \(6\) that num_chunks \(4\) divides"):
        validate(EmbeddingsConfig, {"default": unified(num_chunks=4)}, "test")


@pytest.mark.parametrize("combine", ["concat", "sum"])
@pytest.mark.parametrize("store", ["fused", "plain"])
def test_a_rows_gradient_is_the_sum_over_all_that_hash_to_it(combine, store):
    embeddings = build(unified(num_rows=11, combine=combine), store=store)
    before = embeddings.store.weights()["unified"].clone()
    generator = torch.Generator().manual_seed(0)
    ids = {n: torch.randint(size, (64,), generator=generator) for n, size in SIZES.items()}
    sparse = JaggedIds(
        keys=list(SIZES),
        values=torch.cat(list(ids.values())).int(),
        lengths=torch.ones(3 * 64, dtype=torch.int32),
    )
    physical = embeddings.physical_ids(sparse)
    vectors = embeddings(physical)[0].fields
    upstream = torch.randn(vectors.shape, generator=generator)
    vectors.backward(upstream)
    embeddings.store.step()
    gradient = torch.zeros_like(before)
    blocks = upstream.view(64, 3, 3, 2) if combine == "concat" else upstream.view(64, 3, 1, 6)
    for feature, name in enumerate(SIZES):
        for chunk in range(3):
            rows = hash_rows(ids[name], feature_salt(name) + chunk, 11)
            block = blocks[:, feature, chunk if combine == "concat" else 0]
            gradient.index_add_(0, rows, block)
    torch.testing.assert_close(embeddings.store.weights()["unified"], before - gradient)


def test_hashed_shares_a_total_out_by_cardinality():
    resolved = HashedConfig(embedding_dim=6, total_rows=100).resolve(SIZES)
    assert [resolved[name].num_buckets for name in SIZES] == [50, 50, 1]  # 49.9, 49.9, 0.25


@pytest.mark.parametrize("total", [1_000, 40_000, 40_000_000])
def test_the_per_feature_hash_has_the_bytes_of_the_shared_table(total):
    def counted(method):
        built = {
            feature: config.build(feature, CRITEO[feature], feature)
            for feature, config in method.resolve(CRITEO).items()
        }
        tables = {table.name: table for m in built.values() for table in m.tables()}
        return built, sum(table.num_rows * table.dim for table in tables.values())

    shared, floats = counted(UnifiedConfig(embedding_dim=8, num_rows=total, exact_below=100))
    hashed, baseline = counted(HashedConfig(embedding_dim=8, total_rows=total, exact_below=100))
    assert abs(floats - baseline) <= 26 * 8  # a row each, by rounding
    for feature, size in CRITEO.items():
        is_exact = size <= 100
        assert (shared[feature].name == "full_table") is is_exact
        assert (hashed[feature].name == "full_table") is is_exact


def test_hashed_needs_one_size():
    for sizes in ({}, {"num_buckets": 3, "total_rows": 4}):
        with pytest.raises(ValueError, match="num_buckets, or total_rows"):
            HashedConfig(embedding_dim=2, **sizes)


def test_an_exact_feature_keeps_the_init():
    config = UnifiedConfig(embedding_dim=2, num_rows=9, exact_below=5)
    resolved = config.resolve({"small": 5, "a": 6})
    assert resolved["small"] == FullTableConfig(embedding_dim=2, init=UniformInit(bound=0.05))
    assert resolved["a"] == config
