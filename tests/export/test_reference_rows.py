"""The rows that an export keeps with the trained model's logits, and what verify makes of them."""

import json
import shutil

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.errors import RecsysError
from recsys.export.checks.exported_run import verify_with_run
from recsys.export.checks.trained_model import RunReference
from recsys.io.checksums import write_checksums
from recsys.serving.manifest import load_manifest
from recsys.verification.reference_rows import count_rows, read_reference
from tests.export.histories import LONGEST


@pytest.fixture
def place(place_of_histories, tmp_path):
    """A run and a copy of its export that does not find it."""
    trained, export = place_of_histories("dare")
    return trained, shutil.copytree(export, tmp_path / "far" / "away" / "export")


def test_reference_rows_have_every_end_of_every_feature(place):
    trained, export = place
    manifest = load_manifest(export)
    rows, logits = read_reference(export, manifest)
    assert len(rows) == len(logits) == manifest.reference_rows == 2048
    expected = RunReference(trained.model, trained.schema).logits(rows)
    np.testing.assert_array_equal(logits, expected)
    assert logits.std() > 0.05
    for feature in manifest.sparse:
        ids = rows[feature.name].explode().drop_nulls()
        assert (ids.min(), ids.max()) == (0, feature.num_ids - 1)
    for name, longest in (("item_history", LONGEST), ("friends", 3), ("tags", 4)):
        assert set(rows[name].list.len()) == set(range(longest + 1))
    same = rows["item_history"].list.len() == rows["category_history"].list.len()
    assert same.all()


def test_the_longer_histories_may_be_the_fewer_rows_are_kept(place):
    manifest = load_manifest(place[1])

    def rows_with(longest):
        features = [f.model_copy(update={"max_length": longest}) for f in manifest.features]
        return count_rows(features, manifest.pairs)

    assert [rows_with(n) for n in (1, 200, 1000, 100_000)] == [2048, 2048, 524, 64]


def test_logits_that_the_export_does_not_give_are_a_failure_of_the_files(place):
    trained, export = place
    path = export / "reference/logits.parquet"
    logits = pq.read_table(path)["logits"].to_numpy().copy()
    logits[7] += 1.0
    pq.write_table(pa.table({"logits": logits}), path)
    write_checksums(export)
    with pytest.raises(RecsysError) as caught:
        verify_with_run(export, trained.dataset_dir)
    message = str(caught.value)
    assert "row 7: the export (materialized tables, ONNX graph on" in message
    assert "1 of 2048 rows differ" in message
    assert "stored at export" in message
    assert "install the onnxruntime that manifest.json names" in message
    assert "export it again" not in message


@pytest.mark.parametrize("damage", ["fewer rows", "other columns", "no Parquet"])
def test_damaged_reference_rows_are_refused(place, damage):
    trained, export = place
    path = export / "reference/rows.parquet"
    rows = pl.read_parquet(path)
    if damage == "no Parquet":
        path.write_bytes(b"PAR1 and nothing else PAR1")
    else:
        (rows[:5] if damage == "fewer rows" else rows.rename({"item": "items"})).write_parquet(path)
    write_checksums(export)
    with pytest.raises(RecsysError, match=r"rows\.parquet"):
        verify_with_run(export, trained.dataset_dir)


@pytest.mark.parametrize(
    ("found", "words"), [(3, "earlier version"), (1, "earlier version"), (5, "later version")]
)
def test_an_export_of_another_format_is_named_as_such(place, found, words):
    manifest = json.loads((place[1] / "manifest.json").read_text())
    (place[1] / "manifest.json").write_text(json.dumps(manifest | {"format": found}))
    with pytest.raises(RecsysError, match=rf"(?s){words}.*got: +format {found}"):
        load_manifest(place[1])


def test_a_run_of_other_features_is_one_message(place, workplace):
    trained, export = place
    other = workplace("dcn_v2").trained.run_dir
    with pytest.raises(RecsysError, match="the features differ from the export's: %rate, age"):
        verify_with_run(export, trained.dataset_dir, run_dir=other)


def test_a_folder_that_holds_another_run_now_is_no_reference(place_of_histories, tmp_path):
    trained, export = place_of_histories("twin")
    shutil.copytree(trained.run_dir, tmp_path / trained.run_dir.name)
    copy = shutil.copytree(export, tmp_path / "export")
    assert verify_with_run(copy, trained.dataset_dir)[0].reference == "run"
    config = tmp_path / trained.run_dir.name / "config.yaml"
    config.write_text(config.read_text().replace("epochs: 1", "epochs: 2"))
    assert verify_with_run(copy, trained.dataset_dir)[0].reference is None
