"""Models of histories: tables and graphs against the run, on whole sequences."""

import shutil
from dataclasses import replace

import numpy as np
import onnxruntime
import polars as pl
import pytest
from safetensors.numpy import load_file

from recsys.errors import RecsysError
from recsys.export.checks.exported_run import verify_with_run
from recsys.export.checks.trained_model import RunReference, WholeGraphFile
from recsys.export.write import export_run
from recsys.serving.manifest import load_manifest
from recsys.serving.reader import ExportReader
from recsys.training.checkpoint.io import save_weights
from recsys.training.run_folder.trained import load_trained
from tests.export.histories import DIM, LONGEST, MODELS, ROWS, rows_of

each_model = pytest.mark.parametrize("model", MODELS)


@each_model
def test_every_reader_scores_histories_as_the_run_does(place_of_histories, model):
    trained, export = place_of_histories(model)
    rows = rows_of(trained)
    logits = RunReference(trained.model, trained.schema).logits(rows)
    assert logits.std() > 0.05
    reader = ExportReader(export)
    whole = WholeGraphFile(export, reader.manifest)
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
def test_verify_compares_whole_sequences(place_of_histories, model, tmp_path):
    trained, export = place_of_histories(model)
    comparisons = verify_with_run(export, trained.dataset_dir)
    assert [(p.form, p.rows, p.passed) for p in comparisons] == [
        ("materialized", ROWS, True),
        ("native", ROWS, True),
        ("materialized", 2048, True),
        ("native", 2048, True),
    ]
    assert all(p.reference == "run" and p.max_vector_difference < 1e-6 for p in comparisons[:2])
    far = shutil.copytree(export, tmp_path / "far" / "away")  # the run is not beside it
    comparisons = verify_with_run(far, trained.dataset_dir)
    assert [p.reference for p in comparisons] == [None, "form", "stored", "stored"]
    assert all(p.passed for p in comparisons)


def test_attention_has_tables_of_its_own(place_of_histories):
    trained, export = place_of_histories("dare")
    features = {f.name: f for f in load_manifest(export).sparse}
    item, history = features["item"], features["item_history"]
    files = [f.forms["materialized"].file for f in (item, item.attention)]
    assert files == ["tables/item.safetensors", "tables/item@attention.safetensors"]
    assert [f.forms["materialized"].file for f in (history, history.attention)] == files
    assert (item.dim, item.attention.dim) == (4, 3)
    assert (item.method, item.attention.method) == ("full_table", "hashed")
    assert [k.table for k in history.attention.forms["native"].rule.lookups] == [
        "item@attention"
    ] * 2
    assert features["tags"].attention is None
    for name, role in (
        ("item", ""),
        ("item", "search"),
        ("category", "search"),
        ("user", "search"),
    ):
        expected = trained.model.embeddings.materialize(name, role).numpy()
        assert np.abs(expected).max() > 0.5
        file = f"{name}@attention" if role else name
        table = load_file(export / f"tables/{file}.safetensors")["vectors"]
        np.testing.assert_array_equal(table, expected)


def test_the_manifest_says_what_is_a_history(place_of_histories):
    manifest = load_manifest(place_of_histories("din")[1])
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
def test_the_signature_is_what_the_onnx_file_has(place_of_histories, model):
    export = place_of_histories(model)[1]
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


def test_rows_that_a_model_of_histories_cannot_read_are_refused(place_of_histories):
    trained, export = place_of_histories("din")
    reader, row = ExportReader(export), rows_of(trained)[:1]

    def refuses(match, **histories):
        lists = [pl.lit(pl.Series([ids])).alias(name) for name, ids in histories.items()]
        with pytest.raises(RecsysError, match=match):
            reader.score(row.with_columns(lists))

    refuses("(?s)differ in length.*1 and 2", item_history=[3], category_history=[3, 3])
    refuses("longer than the model reads", item_history=[3] * 7, category_history=[3] * 7)


def test_a_history_without_a_bound_cannot_be_exported(place_of_histories, tmp_path):
    trained, _ = place_of_histories("mean_pooling")
    features = tuple(
        f.model_copy(update={"max_length": None}) if f.name == "category_history" else f
        for f in trained.schema.features
    )
    unbounded = replace(trained, schema=trained.schema.model_copy(update={"features": features}))
    with pytest.raises(RecsysError, match="category_history has no max_length"):
        export_run(unbounded, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_behaviour_whose_vector_differs_is_named_by_its_row(place_of_histories, tmp_path):
    trained, export = place_of_histories("mean_pooling")
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
        verify_with_run(export, trained.dataset_dir, run_dir=run)


def _occurs(item, rows):
    return item in rows["item"] or item in rows["item_history"].explode()
