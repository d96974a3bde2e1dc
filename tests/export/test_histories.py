"""Models of histories: tables, graphs and search stage against the run, on whole sequences."""

import shutil
from dataclasses import replace
from functools import cache

import numpy as np
import onnxruntime
import polars as pl
import pyarrow as pa
import pytest
from safetensors.numpy import load_file

from recsys.config import RunConfig
from recsys.errors import RecsysError
from recsys.export.export import export_run
from recsys.export.manifest import load_manifest
from recsys.export.reader import ExportReader
from recsys.export.reference import RunReference, WholeReference
from recsys.export.search_stage import SearchStage
from recsys.export.verify import verify_export
from recsys.schema import Feature, HashEncoding
from recsys.training.checkpoint_io import save_weights
from recsys.training.runs import load_trained
from tests.export.conftest import write_run
from tests.tiny_dataset import write_dataset

ROWS, LONGEST = 60, 6
ITEMS, CATEGORIES, TAGS, USERS = 50, 7, 9, 20
BOTH = {"target": ["item", "category"], "history": ["item_history", "category_history"]}
ITEM = {"target": ["item"], "history": ["item_history"]}
FRIENDS = {"target": ["user"], "history": ["friends"]}
FULL, DIM = {"method": "full_table", "embedding_dim": 4}, 4
SHARED = {"item_history": "item", "category_history": "category", "friends": "user"}
PLAIN = {"default": FULL, "shared_tables": SHARED, "pooling": {"tags": "sum"}}
SMALL = {"hidden_dims": [16]}
TWO_STAGE = {**SMALL, "top_k": 3, "pairs": [BOTH], "position_dim": 3}
REMAINDERS = {"kind": "quotient_remainder", "num_remainders": 8}
COMPRESSED = {
    **PLAIN,
    "per_feature": {"category": FULL | {"embedding_dim": 2}},
    "attention": {
        "default": {"method": "unified", "embedding_dim": 2, "num_rows": 40, "num_chunks": 2},
        "per_feature": {
            "item": {"method": "hashed", "embedding_dim": 3, "num_buckets": 9, "num_hashes": 2},
            "user": {"method": "compositional", "embedding_dim": 2, "partitions": REMAINDERS},
        },
    },
}
MODELS = {
    "mean_pooling": {"model": {"name": "mean_pooling", **SMALL, "pairs": [BOTH]}},
    "din": {"model": {"name": "din", **SMALL, "pairs": [ITEM, BOTH], "softmax": True}},
    "twin": {"model": {"name": "twin", **TWO_STAGE}},
    "sim_hard": {"model": {"name": "sim_hard", **TWO_STAGE, "category": "category"}},
    "dare": {
        "model": {
            "name": "dare",
            **TWO_STAGE,
            "pairs": [BOTH, FRIENDS],
            "attention_position_dim": 2,
        },
        "embeddings": COMPRESSED,
    },
}
each_model = pytest.mark.parametrize("model", MODELS)


def write_rows(folder):
    def ids(name, cardinality, **fields):
        kind = "sequence" if "max_length" in fields else "categorical"
        return Feature(
            name=name,
            kind=kind,
            column=name,
            encoding=HashEncoding(),
            cardinality=cardinality,
            **fields,
        )

    features = [
        ids("item_history", ITEMS, max_length=LONGEST),
        ids("user", USERS),
        ids("friends", USERS, max_length=3),
        ids("item", ITEMS),
        ids("tags", TAGS, max_length=4),
        ids("category", CATEGORIES),
        ids("category_history", CATEGORIES, max_length=LONGEST),
        Feature(name="price", kind="numerical", column="price"),
    ]
    rng = np.random.default_rng(4)
    splits = {split: [some_rows(rng)] for split in ("train", "valid", "test")}
    folder.mkdir()
    write_dataset(folder, features, splits, row_group_rows=32)


def some_rows(rng):
    def bags(lengths, items):
        return pa.ListArray.from_arrays(np.cumsum([0, *lengths], dtype=np.int32), items)

    lengths, counts, friends = (rng.integers(0, most + 1, ROWS) for most in (LONGEST, 4, 3))
    item, history = (rng.integers(0, ITEMS, n, dtype=np.int32) for n in (ROWS, lengths.sum()))
    return pa.table(
        {
            "item_history": bags(lengths, history),
            "user": rng.integers(0, USERS, ROWS, dtype=np.int32),
            "friends": bags(friends, rng.integers(0, USERS, friends.sum(), dtype=np.int32)),
            "item": item,
            "tags": bags(counts, rng.integers(0, TAGS, counts.sum(), dtype=np.int32)),
            "category": item % CATEGORIES,
            "category_history": bags(lengths, history % CATEGORIES),
            "price": rng.normal(size=ROWS).astype(np.float32),
            "label": rng.integers(0, 2, ROWS).astype(np.int8),
        }
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """name of a model → its run and its export, made once."""
    root = tmp_path_factory.mktemp("histories")
    write_rows(root / "dataset")

    @cache
    def build(model):
        content = {
            "data": {"path": root / "dataset", "global_batch_size": 64},
            "embeddings": PLAIN,
            "train": {
                "epochs": 1,
                "dense_optimizer": {"learning_rate": 0.1},
                "embedding_optimizer": {"name": "rowwise_adagrad", "learning_rate": 0.1},
                "device": "cpu",
            },
            **MODELS[model],
        }
        trained = write_run(root / f"run-{model}", RunConfig.model_validate(content))
        return trained, export_run(trained, root / f"export-{model}")

    return build


def rows_of(trained):
    return pl.read_parquet(trained.dataset_dir / "test")


@each_model
def test_every_reader_scores_histories_as_the_run_does(place, model):
    trained, export = place(model)
    rows = rows_of(trained)
    logits = RunReference(trained.model, trained.schema).logits(rows)
    assert logits.std() > 0.05
    reader = ExportReader(export)
    whole = WholeReference(export, reader.manifest)
    for form in reader.manifest.forms:
        np.testing.assert_allclose(reader.score(rows, form).logits, logits, atol=1e-5)
    np.testing.assert_allclose(whole.logits(rows), logits, atol=1e-5)
    empty = rows.filter(pl.col("item_history").list.len() == 0)
    assert len(empty) > 1
    for few in (rows[:1], empty[:1], empty, rows[:0]):
        expected = RunReference(trained.model, trained.schema).logits(few)
        assert expected.shape == (len(few),)
        np.testing.assert_allclose(reader.score(few).logits, expected, atol=1e-5)
        np.testing.assert_allclose(whole.logits(few), expected, atol=1e-5)


@each_model
def test_verify_compares_whole_sequences(place, model, tmp_path):
    trained, export = place(model)
    comparisons = verify_export(export, trained.dataset_dir)
    assert [(p.form, p.rows, p.passed) for p in comparisons] == [
        ("materialised", ROWS, True),
        ("native", ROWS, True),
    ]
    assert all(p.reference == "run" and p.max_vector_difference < 1e-6 for p in comparisons)
    far = shutil.copytree(export, tmp_path / "far" / "away")  # the run is not beside it
    comparisons = verify_export(far, trained.dataset_dir)
    assert all(p.reference == "whole" and p.passed for p in comparisons)


def test_attention_has_tables_of_its_own(place):
    trained, export = place("dare")
    features = {f.name: f for f in load_manifest(export).sparse}
    item, history = features["item"], features["item_history"]
    assert (item.table, item.attention.table) == (
        "tables/item.safetensors",
        "tables/item@attention.safetensors",
    )
    assert (history.table, history.attention.table) == (item.table, item.attention.table)
    assert (item.dim, item.attention.dim) == (4, 3)
    assert (item.method, item.attention.method) == ("full_table", "hashed")
    assert [look.table for look in history.attention.native.rule.lookups] == ["item@attention"] * 2
    assert features["tags"].attention is None
    for name in ("item", "item@attention", "category@attention", "user@attention"):
        expected = trained.model.embeddings.materialise(name).numpy()
        assert np.abs(expected).max() > 0.5
        table = load_file(export / f"tables/{name}.safetensors")["vectors"]
        np.testing.assert_array_equal(table, expected)


def test_the_manifest_says_what_is_a_history(place):
    manifest = load_manifest(place("din")[1])
    pooling = {f.name: f.pooling for f in manifest.sparse if f.kind == "sequence"}
    assert pooling == {
        "item_history": None,
        "friends": "mean",
        "tags": "sum",
        "category_history": None,
    }
    # one pair shares a history with the other, so all are of one length
    assert [(p.history, p.lengths, p.max_length) for p in manifest.pairs] == [
        (("item_history",), "item_history.lengths", LONGEST),
        (("item_history", "category_history"), "item_history.lengths", LONGEST),
    ]
    assert all(pair.search is None for pair in manifest.pairs)


@each_model
def test_the_signature_is_what_the_onnx_file_has(place, model):
    export = place(model)[1]
    spec = load_manifest(export).model.dense
    session = onnxruntime.InferenceSession(export / spec.file)
    for tensors, own in (
        (spec.inputs, session.get_inputs()),
        (spec.outputs, session.get_outputs()),
    ):
        assert [(t.name, list(t.shape)) for t in tensors] == [(t.name, t.shape) for t in own]
    shapes = {tensor.name: tensor.shape for tensor in spec.inputs}
    assert shapes["item_history"] == ("total_0", DIM)
    assert shapes["item_history.lengths"] == ("batch",)
    if model == "dare":
        assert shapes["category@attention"] == ("batch", 2)
        assert shapes["category_history@attention"] == ("total_0", 2)
        assert shapes["friends@attention"] == ("total_2", 2)
        assert shapes["friends.lengths"] == ("batch",)


@pytest.mark.parametrize(
    ("model", "pair"), [("twin", 0), ("sim_hard", 0), ("dare", 0), ("dare", 1)]
)
@pytest.mark.parametrize("form", ["materialised", "native"])
def test_the_search_stage_alone_finds_what_the_model_finds(place, model, pair, form):
    trained, export = place(model)
    rows = rows_of(trained)
    stage = SearchStage(export, pair, form)
    for k in (1, 3, LONGEST + 1):
        ranks, scores = RunReference(trained.model, trained.schema).retrieve(rows, k, pair)
        for row, *expected in zip(rows.iter_rows(named=True), ranks, scores, strict=True):
            found = stage.retrieve(row, row, k)
            is_there = expected[0] > 0
            assert found.ranks.tolist() == expected[0][is_there].tolist()
            np.testing.assert_allclose(found.scores, expected[1][is_there], rtol=1e-5, atol=1e-6)


def test_the_search_stage_reads_attentions_tables_only(place, tmp_path):
    trained, export = place("dare")
    out = shutil.copytree(export, tmp_path / "export")
    for table in out.glob("tables/*"):
        if "@attention" not in table.name:
            table.unlink()
    row = rows_of(trained).row(0, named=True)
    found = SearchStage(out, check=False).retrieve(row, row)
    assert len(found.ranks) == min(3, len(row["item_history"])) > 0


def test_searches_that_cannot_be_are_refused(place):
    def refuses(match, **change):
        with pytest.raises(RecsysError, match=match):
            stage.retrieve(row | change, row | change)

    trained, export = place("dare")
    row = rows_of(trained).row(0, named=True)
    stage = SearchStage(export)
    refuses("are not of one length", item_history=[1, 2, 3, 4, 5, 6, 7])
    seven = {"item_history": [1] * 7, "category_history": [1] * 7}
    refuses("(?s)longer than the model has ranks for.*at most 6.*7", **seven)
    refuses("item@attention: an id is outside", item=ITEMS)
    with pytest.raises(RecsysError, match="no ids of the feature 'item'"):
        stage.retrieve({"items": 3}, row)
    with pytest.raises(RecsysError, match="no pair 2"):
        SearchStage(export, pair=2)
    with pytest.raises(RecsysError, match="din has no search stage"):
        SearchStage(place("din")[1])


def test_rows_that_a_model_of_histories_cannot_read_are_refused(place):
    trained, export = place("din")
    reader, row = ExportReader(export), rows_of(trained)[:1]

    def refuses(match, **histories):
        lists = [pl.lit(pl.Series([ids])).alias(name) for name, ids in histories.items()]
        with pytest.raises(RecsysError, match=match):
            reader.score(row.with_columns(lists))

    refuses("(?s)are not of one length.*1 and 2", item_history=[3], category_history=[3, 3])
    refuses("longer than the model reads", item_history=[3] * 7, category_history=[3] * 7)


def test_a_history_without_a_bound_cannot_be_exported(place, tmp_path):
    trained, _ = place("mean_pooling")
    features = tuple(
        f.model_copy(update={"max_length": None}) if f.name == "category_history" else f
        for f in trained.schema.features
    )
    unbounded = replace(trained, schema=trained.schema.model_copy(update={"features": features}))
    with pytest.raises(RecsysError, match="category_history has no max_length"):
        export_run(unbounded, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_behaviour_whose_vector_differs_is_named_by_its_row(place, tmp_path):
    trained, export = place("mean_pooling")
    rows = rows_of(trained)
    row = int((rows["item_history"].list.len() > 0).to_numpy().nonzero()[0][2])
    item = next(i for i in rows["item_history"][row] if not _occurs(i, rows[:row]))
    run = shutil.copytree(trained.run_dir, tmp_path / "run")
    changed = load_trained(run).model
    changed.embeddings.store.weights()["item"][item] += 5e-6  # too little for probabilities
    shutil.rmtree(run / "checkpoints")
    state = changed.embeddings.store.state()
    save_weights(changed.dense_state_dict(), state, run / "checkpoints" / "best-000000")
    with pytest.raises(RecsysError, match=f"row {row}: the vector of feature item_history differs"):
        verify_export(export, trained.dataset_dir, run_dir=run)


def _occurs(item, rows):
    return item in rows["item"] or item in rows["item_history"].explode()
