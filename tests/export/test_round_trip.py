import json
import shutil
import subprocess
import zipfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnxruntime
import polars as pl
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.numpy import load_file

import data_pipelines
from recsys.config.base import validate
from recsys.config.run import RunConfig
from recsys.errors import RecsysError
from recsys.export.checks.exported_run import verify_with_run
from recsys.export.checks.trained_model import RunReference
from recsys.export.signatures import graph_input_names
from recsys.export.write import export_run
from recsys.serving.manifest import check_export, load_manifest
from recsys.serving.reader import ExportReader
from recsys.training.run_folder.trained import load_trained
from recsys.training.train import train
from tests.export.conftest import MODELS


@pytest.mark.parametrize("model", MODELS)
def test_the_reader_scores_raw_rows_as_the_run_does(workplace, model):
    place = workplace(model)
    frames, encoded = zip(*place.raw_chunks(), strict=True)
    scores = ExportReader(place.export).score_raw(pl.concat(frames))
    logits = RunReference(place.trained.model, place.trained.schema).logits(pl.concat(encoded))
    assert logits.std() > 0.1
    np.testing.assert_allclose(scores.logits, logits, atol=1e-5, rtol=1e-5)
    own = 1 / (1 + np.exp(-scores.logits))
    np.testing.assert_allclose(scores.probabilities, own, atol=1e-6)


@pytest.mark.parametrize("model", MODELS)
def test_export_itself_compares_both_graphs_with_the_run(workplace, model):
    parity = load_manifest(workplace(model).export).parity[:6]
    assert [p.candidate for p in parity] == ["dense", "dense", "whole"] * 2
    assert [p.form for p in parity] == ["materialized", "native", None] * 2
    assert all(p.passed and p.reference == "run" for p in parity)
    assert [p.rows for p in parity] == [30] * 3 + [2048] * 3
    assert parity[0].reference_auc == pytest.approx(parity[0].candidate_auc)


def test_a_table_file_holds_the_vector_of_each_id(workplace):
    place = workplace("dcn_v2")
    manifest = load_manifest(place.export)
    for feature in manifest.sparse:
        expected = place.trained.model.embeddings.materialize(feature.name).numpy()
        np.testing.assert_array_equal(
            load_file(place.export / feature.forms["materialized"].file)["vectors"], expected
        )
        table = pq.read_table(place.export / feature.forms["materialized"].parquet)
        assert table.schema.field("id").type == "int32"
        assert table.schema.field("vector").type.list_size == feature.dim
        assert table["id"].to_pylist() == list(range(feature.cardinality))
        vectors = table["vector"].combine_chunks().flatten().to_numpy()
        np.testing.assert_array_equal(vectors.reshape(expected.shape), expected)


def test_features_that_share_a_table_share_its_file(workplace):
    place = workplace("dcn_v2")
    tables = {f.name: f.forms["materialized"].file for f in load_manifest(place.export).sparse}
    assert tables["history"] == tables["color"] == "tables/color.safetensors"
    assert not (place.export / "tables/history.safetensors").exists()


def test_the_manifest_says_how_each_feature_enters_the_model(workplace):
    manifest = load_manifest(workplace("dcn_v2").export)
    features = {f.name: f for f in manifest.features}
    assert (features["age"].method, features["age"].dim) == ("vector", 4)
    assert (features["%rate"].method, features["%rate"].dense_column) == ("raw", 2)
    assert (features["shop"].method, features["shop"].dim) == ("hashed", 8)
    assert (features["history"].pooling, features["tags"].pooling) == ("sum", "mean")
    assert features["history"].separator == "|"
    assert features["dense"].graph_input == "dense_"
    assert features["visits"].transform.edges
    assert manifest.versions["torch"] == version("torch")


def test_the_signature_is_what_the_onnx_file_has(workplace):
    place = workplace("dcn_v2")
    spec = load_manifest(place.export).model.dense
    session = onnxruntime.InferenceSession(place.export / spec.file)
    for tensors, own in (
        (spec.inputs, session.get_inputs()),
        (spec.outputs, session.get_outputs()),
    ):
        assert [(t.name, list(t.shape)) for t in tensors] == [(t.name, t.shape) for t in own]


def test_sha256sum_agrees(workplace):
    place = workplace("dcn_v2")
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=place.export, check=True)


@pytest.mark.parametrize("model", MODELS)
def test_there_is_no_pickle_and_no_path_of_the_exporting_machine(workplace, model):
    place = workplace(model)
    for path in filter(lambda p: p.is_file(), place.export.rglob("*")):
        contents = [path.read_bytes()]
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                contents += [archive.read(name) for name in archive.namelist()]
        for content in contents:
            assert not (content[:1] == b"\x80" and content[-1:] == b".")
            assert b"data.pkl" not in content
            assert b"site-packages" not in content
            assert content[:2] != b"PK" or content is contents[0]


def test_an_old_export_is_replaced(workplace, tmp_path):
    place = workplace("logistic_regression")
    out = shutil.copytree(place.export, tmp_path / "old")
    (out / "stray.txt").touch()
    export_run(place.trained, out)
    assert not (out / "stray.txt").exists()
    assert list(tmp_path.iterdir()) == [out]


def test_an_old_export_stays_when_the_new_one_cannot_take_its_place(
    workplace, tmp_path, monkeypatch
):
    place = workplace("logistic_regression")
    out = shutil.copytree(place.export, tmp_path / "old")
    rename = Path.rename

    def rename_all_but_the_new_one(path, target):
        if path.name == out.name and path != out:
            raise OSError(13, "Permission denied")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", rename_all_but_the_new_one)
    with pytest.raises(RecsysError, match="Permission denied"):
        export_run(place.trained, out)
    assert list(tmp_path.iterdir()) == [out]
    check_export(out)


def test_a_folder_that_is_no_export_is_left_alone(workplace, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(RecsysError, match="is not an export"):
        export_run(workplace("logistic_regression").trained, tmp_path)
    assert (tmp_path / "thesis.txt").exists()


def test_a_full_disk_leaves_nothing(workplace, tmp_path, monkeypatch):
    def write_graphs(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("recsys.export.write.write_graphs", write_graphs)
    with pytest.raises(RecsysError, match="No space left on device"):
        export_run(workplace("logistic_regression").trained, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_graphs_that_score_otherwise_are_not_exported(workplace, tmp_path, monkeypatch):
    place = workplace("dcn_v2")

    def write_graphs(model, _schema, _name, folder):  # the graphs of other weights
        shutil.copytree(place.export / "model", folder / "model")
        spec = load_manifest(place.export).model
        with torch.no_grad():
            model.network.model.head.bias += 0.1
        return spec

    monkeypatch.setattr("recsys.export.write.write_graphs", write_graphs)
    with pytest.raises(RecsysError, match="so the dense part differs"):
        export_run(load_trained(place.trained.run_dir), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_inputs_keep_their_names_unless_one_of_ours_has_it():
    assert graph_input_names(["C1", "dense", "dense_", "logits"]) == {
        "C1": "C1",
        "dense": "dense__",
        "dense_": "dense_",
        "logits": "logits_",
    }


def test_an_export_from_before_there_were_histories_is_read(workplace, tmp_path):
    out = shutil.copytree(workplace("dcn_v2").export, tmp_path / "old")
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest.pop("pairs") == []
    for parity in manifest["parity"]:
        assert parity.pop("search_ties") == 0
    (out / "manifest.json").write_text(json.dumps(manifest))
    assert load_manifest(out) == load_manifest(workplace("dcn_v2").export)


def test_forms_and_reference_rows_are_compared_when_the_run_is_gone(workplace, tmp_path):
    place = workplace("dcn_v2")
    out = shutil.copytree(place.export, tmp_path / "elsewhere")
    alone, parity, *stored = verify_with_run(out, place.dataset / "valid")
    assert (alone.reference, alone.rows, alone.max_abs_difference) == (None, 30, None)
    assert (parity.reference, parity.rows, parity.passed) == ("form", 30, True)
    assert parity.max_vector_difference is None
    assert [(p.reference, p.rows, p.passed) for p in stored] == [("stored", 2048, True)] * 2
    recorded = json.loads((out / "manifest.json").read_text())["parity"]
    assert recorded[-1]["candidate"] == "reader"
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=out, check=True)


def test_features_may_have_the_names_of_values_in_the_graph(tmp_path):
    names = ["cat", "logits", "dense", "mul", "probabilities", "view", "network.head.weight"]
    rows = {name: [f"v{(i + k) % 5}" for i in range(60)] for k, name in enumerate(names)}
    pl.DataFrame({"y": [i % 2 for i in range(60)], **rows}).write_csv(tmp_path / "rows.csv")
    columns = ", ".join(names)
    recipe = f"label: {{column: y}}\ncategorical: {{columns: [{columns}]}}\nmin_count: 1\n"
    (tmp_path / "recipe.yaml").write_text(recipe)
    raw = [tmp_path / "rows.csv"]
    data_pipelines.prepare(str(tmp_path / "recipe.yaml"), raw, tmp_path / "data[1]")
    content = {
        "data": {"path": str(tmp_path / "data[1]"), "global_batch_size": 16},
        "embeddings": {"default": {"method": "full_table", "embedding_dim": 4}},
        "model": {"name": "dcn_v2", "hidden_dims": [4]},
        "train": {
            "epochs": 1,
            "dense_optimizer": {"learning_rate": 0.01},
            "embedding_optimizer": {"name": "sgd", "learning_rate": 0.1},
        },
    }
    train(validate(RunConfig, content, "test"), tmp_path / "run")
    export_run(load_trained(tmp_path / "run"), tmp_path / "export")
    verify_with_run(tmp_path / "export", tmp_path / "data[1]")
