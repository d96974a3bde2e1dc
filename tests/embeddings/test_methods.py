"""Each method against its formula, and the choices of the `embeddings:` section."""

import pytest
import torch

from recsys.data.jagged_ids import JaggedIds
from recsys.embeddings.build import build_embeddings
from recsys.embeddings.config import EmbeddingsConfig
from recsys.embeddings.feature_methods import row_counts
from recsys.embeddings.id_mapping.hashing import feature_salt, hash_rows
from recsys.embeddings.methods.hashed import HashedConfig
from recsys.embeddings.optimizers import AdamConfig, RowwiseAdagradConfig, SparseAdamConfig
from recsys.embeddings.tables.regularization import PooledPenalty, RowL2
from recsys.errors import RecsysError
from recsys.schema import Feature, Schema, VocabularyEncoding

CPU = torch.device("cpu")
ADAGRAD = RowwiseAdagradConfig(learning_rate=0.5)


def categorical(name: str, cardinality: int, vocabulary: str | None = None) -> Feature:
    encoding = VocabularyEncoding(file=f"vocabularies/{vocabulary or name}.parquet")
    return Feature(
        name=name, kind="categorical", column=name, cardinality=cardinality, encoding=encoding
    )


SCHEMA = Schema(
    name="x",
    features=(categorical("a", 10), categorical("b", 20), categorical("b2", 20, "b")),
    splits={},
)


def config(**options) -> EmbeddingsConfig:
    return EmbeddingsConfig.model_validate(
        {"default": {"method": "full_table", "embedding_dim": 2}, **options}
    )


def ids_of(a, b, b2) -> JaggedIds:
    return JaggedIds(
        keys=["a", "b", "b2"],
        values=torch.tensor([*a, *b, *b2], dtype=torch.int32),
        lengths=torch.ones(len(a) * 3, dtype=torch.int32),
    )


@pytest.mark.parametrize(("salts", "salt"), [("by_feature", feature_salt("a")), ("common", 0)])
def test_hashed_is_the_sum_of_k_hashed_rows(salts, salt):
    config = HashedConfig(embedding_dim=3, num_buckets=7, num_hashes=2, salts=salts)
    method = config.build("a", 100, "a")
    table = torch.randn(7, 3)
    ids = torch.arange(100)
    expected = table[hash_rows(ids, salt, 7)] + table[hash_rows(ids, salt + 1, 7)]
    torch.testing.assert_close(method.materialize({"a": table}), expected)
    steps = [look.steps[0] for look in method.rule().lookups]
    assert [step.salt for step in steps] == [f"0x{salt + k:016x}" for k in range(2)]


def test_ids_that_collide_in_one_hashed_feature_do_not_collide_in_another():
    config, ids = HashedConfig(embedding_dim=2, num_buckets=100), torch.arange(10_000)
    (a,), (b,) = (config.build(name, 10_000, name).rows(ids) for name in ("a", "b"))
    pairs = torch.bincount(a * 100 + b, minlength=10_000).double()
    # 9,999 degrees of freedom: mean 9,999, standard deviation 141; one id for each pair of rows
    assert abs(((pairs - 1) ** 2).sum() - 9_999) < 5 * 141


def test_hashed_features_that_share_a_table_read_the_same_rows():
    config, ids = HashedConfig(embedding_dim=2, num_buckets=7), torch.arange(50)
    reader, owner = config.build("b2", 50, "b"), config.build("b", 50, "b")
    assert torch.equal(reader.rows(ids)[0], owner.rows(ids)[0])


def test_hashed_refuses_more_buckets_than_ids():
    with pytest.raises(RecsysError, match="full_table"):
        HashedConfig(embedding_dim=3, num_buckets=100).build("a", 100, "a")


def test_rowwise_adagrad_takes_the_step_of_its_formula():
    embeddings = build_embeddings(config(), SCHEMA, ADAGRAD, CPU)
    embeddings.store.initialize(0)
    before = embeddings.store.weights()["a"].clone()
    vectors = embeddings(embeddings.physical_ids(ids_of([3], [0], [0])))[0].fields
    gradient = torch.tensor([3.0, 4.0])
    vectors[0, :2].backward(gradient)
    # state = mean of squares over the padded row of 4 = 6.25; step = learning_rate · g / √6.25
    expected = before[3] - 0.5 * gradient / 2.5
    torch.testing.assert_close(embeddings.store.weights()["a"][3], expected)


def test_shared_tables_are_one_table_and_train_together():
    options = config(features={"b2": {"shares_table_with": "b"}})
    embeddings = build_embeddings(options, SCHEMA, ADAGRAD, CPU)
    assert set(embeddings.store.weights()) == {"a", "b"}
    embeddings.store.initialize(0)
    vectors = embeddings(embeddings.physical_ids(ids_of([0], [5], [5])))[0].fields
    torch.testing.assert_close(vectors[:, 2:4], vectors[:, 4:6])


def test_features_keep_their_order_when_tables_interleave():
    schema = SCHEMA.model_copy(
        update={"features": (SCHEMA.features[1], SCHEMA.features[0], SCHEMA.features[2])}
    )
    embeddings = build_embeddings(
        config(features={"b2": {"shares_table_with": "b"}}), schema, ADAGRAD, CPU
    )
    embeddings.store.initialize(0)
    ids = JaggedIds(
        keys=["b", "a", "b2"],
        values=torch.tensor([1, 2, 3], dtype=torch.int32),
        lengths=torch.ones(3, dtype=torch.int32),
    )
    vectors = embeddings(embeddings.physical_ids(ids))[0].fields
    weights = embeddings.store.weights()
    expected = torch.cat([weights["b"][1], weights["a"][2], weights["b"][3]])
    torch.testing.assert_close(vectors[0], expected)


def test_a_shared_table_needs_one_vocabulary():
    with pytest.raises(RecsysError, match="ids mean different values"):
        build_embeddings(config(features={"a": {"shares_table_with": "b"}}), SCHEMA, ADAGRAD, CPU)


def test_a_shared_table_needs_one_shape():
    features = (categorical("b", 20), categorical("b2", 20, "b"))
    schema = SCHEMA.model_copy(update={"features": features})
    options = config(
        features={
            "b2": {"shares_table_with": "b"},
            "b": {"method": "hashed", "embedding_dim": 2, "num_buckets": 5},
        }
    )
    embeddings = build_embeddings(options, schema, ADAGRAD, CPU)
    assert embeddings.store.weights()["b"].shape == (5, 2)  # b2 takes b's method with its table


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"aa": {"method": "full_table", "embedding_dim": 2}}, "did you mean 'a'"),
        (
            {"z*": {"method": "full_table", "embedding_dim": 2}},
            r"(?s)no such feature in the dataset.*embeddings\.features\.z\*",
        ),
        ({"b2": {"shares_table_with": "c"}}, r"embeddings\.features\.b2\.shares_table_with"),
        ({"a": {"numerical": "raw"}}, r"(?s)numerical applies to .*embeddings\.features\.a"),
    ],
)
def test_names_the_data_set_does_not_have_are_refused(options, message):
    with pytest.raises(RecsysError, match=message):
        build_embeddings(config(features=options), SCHEMA, ADAGRAD, CPU)


def test_an_exact_name_beats_a_wildcard():
    options = config(
        features={
            "b*": {"method": "full_table", "embedding_dim": 3},
            "b2": {"method": "full_table", "embedding_dim": 5},
        }
    )
    embeddings = build_embeddings(options, SCHEMA, ADAGRAD, CPU)
    widths = {key.name: dim for key, dim in embeddings.output_dims.items()}
    assert widths == {"a": 2, "b": 3, "b2": 5}


def test_the_fused_store_refuses_adam_on_a_cpu():
    with pytest.raises(RecsysError, match="store: plain"):
        build_embeddings(config(), SCHEMA, AdamConfig(learning_rate=0.1), CPU)


def test_dense_adam_with_l2_moves_rows_that_are_not_looked_up():
    optimizer = AdamConfig(learning_rate=0.1, l2=0.01)
    embeddings = build_embeddings(config(store="plain"), SCHEMA, optimizer, CPU)
    embeddings.store.initialize(0)
    before = embeddings.store.weights()["a"].clone()
    embeddings(embeddings.physical_ids(ids_of([3], [0], [0])))[0].fields.sum().backward()
    embeddings.store.optimizers()[0].step()
    # the first Adam step is learning_rate · sign(gradient), and λ·w is the gradient of λ/2·w²
    expected = before[7] - 0.1 * before[7].sign()
    torch.testing.assert_close(embeddings.store.weights()["a"][7], expected, atol=1e-4, rtol=0)


def test_sparse_adam_leaves_other_rows_alone():
    optimizer = SparseAdamConfig(learning_rate=0.1)
    embeddings = build_embeddings(config(store="plain"), SCHEMA, optimizer, CPU)
    embeddings.store.initialize(0)
    before = embeddings.store.weights()["a"].clone()
    embeddings(embeddings.physical_ids(ids_of([3], [0], [0])))[0].fields.sum().backward()
    embeddings.store.optimizers()[0].step()
    moved = (embeddings.store.weights()["a"] != before).any(1).nonzero().flatten().tolist()
    assert moved == [3]


def test_features_may_have_the_names_of_module_attributes():
    features = (categorical("keys", 4), categorical("a.b", 4), categorical("weight", 4))
    schema = Schema(name="x", features=features, splits={})
    embeddings = build_embeddings(config(), schema, ADAGRAD, CPU)
    assert set(embeddings.store.weights()) == {"keys", "a.b", "weight"}


def test_an_epochs_row_penalties_sum_to_the_dense_penalty():
    embeddings = build_embeddings(config(), SCHEMA, ADAGRAD, CPU)
    embeddings.store.initialize(0)
    generator = torch.Generator().manual_seed(0)
    rows = {"a": 10, "b": 20, "b2": 20}
    # 40 train rows in batches of 8, in which every id occurs
    columns = {n: torch.arange(40)[torch.randperm(40, generator=generator)] % rows[n] for n in rows}
    counts = row_counts(
        embeddings.methods, {n: torch.bincount(columns[n], minlength=rows[n]) for n in rows}
    )
    store, pooled = embeddings.store, embeddings.store.groups["pooled"]
    penalty = PooledPenalty(pooled.tables, pooled.lookups, counts, RowL2(0.5 * 0.3 * 40))
    total = torch.zeros(())
    for start in range(0, 40, 8):
        batch = [columns[n][start : start + 8].tolist() for n in rows]
        asked = embeddings.physical_ids(ids_of(*batch))["pooled"]
        total += penalty(asked, pooled(asked.rows)).detach()
    squares = sum(weight.square().sum() for weight in store.weights().values())
    num_batches = 5
    torch.testing.assert_close(total, num_batches * 0.5 * 0.3 * squares)
