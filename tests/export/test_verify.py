import json
import shutil
import subprocess
import sys

import polars as pl
import pytest

from recsys.errors import RecsysError
from recsys.export.checks.exported_run import verify_with_run
from recsys.serving.manifest import load_manifest
from recsys.training.checkpoint.io import save_weights
from recsys.training.run_folder.trained import load_trained
from recsys.verification.reader_process import READER_PROGRAM


@pytest.fixture
def place(workplace):
    return workplace("dcn_v2")


@pytest.fixture
def export(place, tmp_path):
    """A copy of the export that a test may damage."""
    return shutil.copytree(place.export, tmp_path / "export")


def test_encoded_rows_are_verified_against_the_run(place):
    test_rows = sorted((place.dataset / "test").glob("*.parquet"))
    for data in (place.dataset, place.dataset / "test", *test_rows):
        before = load_manifest(place.export).parity
        comparisons = verify_with_run(place.export, data)
        assert [parity.form for parity in comparisons] == ["materialized", "native"] * 2
        for parity in comparisons[2:]:
            assert (parity.reference, parity.rows) == ("stored", 2048)
            assert parity.passed
            assert parity.max_abs_difference < 1e-5
        for parity in comparisons[:2]:
            assert (parity.candidate, parity.reference, parity.rows) == ("reader", "run", 30)
            assert parity.passed
            assert 0 < parity.max_abs_difference < 1e-5
            assert 0 < parity.max_vector_difference < 1e-6
            assert parity.candidate_auc == pytest.approx(parity.reference_auc, abs=1e-12)
        assert load_manifest(place.export).parity == (*before, *comparisons)


def test_raw_rows_are_verified_from_their_raw_values(place):
    parity, native, *_ = verify_with_run(place.export, place.raw, place.raw_chunks())
    assert native.model_copy(update={"form": "materialized"}) == parity
    assert (parity.reference, parity.rows, parity.passed) == ("run", 300, True)
    assert parity.candidate_auc is not None


def test_unlabelled_raw_rows_are_scored_without_an_auc(place, tmp_path):
    raw = tmp_path / "unlabelled.csv"
    pl.read_csv(place.raw, infer_schema=False).drop("clicked").write_csv(raw)
    parity, *_ = verify_with_run(place.export, raw, place.raw_chunks(raw))
    assert (parity.rows, parity.passed, parity.candidate_auc) == (300, True, None)


def test_another_run_can_be_named(place, export, tmp_path):
    run = shutil.copytree(place.trained.run_dir, tmp_path / "moved run")
    assert verify_with_run(export, place.dataset, run_dir=run)[0].reference == "run"
    with pytest.raises(RecsysError, match="is not a run folder"):
        verify_with_run(export, place.dataset, run_dir=tmp_path / "no run")


def test_a_flipped_byte_in_any_file_is_found(place, export):
    files = [path for path in export.rglob("*") if path.is_file()]
    assert len(files) > 15
    for path in files:
        content = bytearray(path.read_bytes())
        for position in {0, len(content) // 3, len(content) - 1}:
            content[position] ^= 1
            path.write_bytes(content)
            with pytest.raises(RecsysError):
                verify_with_run(export, place.dataset)
            content[position] ^= 1
        path.write_bytes(content)
    assert all(parity.passed for parity in verify_with_run(export, place.dataset))


def test_any_flipped_bit_of_the_checksum_file_is_found(place, export):
    path = export / "SHA256SUMS"
    content = bytearray(path.read_bytes())
    newlines = [i for i, byte in enumerate(content) if byte == ord("\n")]
    for position in [*newlines[:2], newlines[-1], 3, 64, 65, 66]:
        for bit in range(8):
            content[position] ^= 1 << bit
            path.write_bytes(content)
            with pytest.raises(RecsysError):
                verify_with_run(export, place.dataset)
            content[position] ^= 1 << bit


@pytest.mark.parametrize(
    "name",
    [
        "manifest.json",
        "SHA256SUMS",
        "tables/color.safetensors",
        "tables/color.parquet",
        "vocabularies/color.parquet",
        "model/dense.onnx",
        "model/model.pt2",
    ],
)
def test_a_truncated_or_missing_file_is_named(place, export, name):
    content = (export / name).read_bytes()
    (export / name).write_bytes(content[:-7])
    with pytest.raises(RecsysError, match=name):
        verify_with_run(export, place.dataset)
    (export / name).unlink()
    with pytest.raises(RecsysError, match=name):
        verify_with_run(export, place.dataset)


def test_a_file_that_does_not_belong_is_named(place, export):
    (export / "tables" / "virus.exe").touch()
    with pytest.raises(RecsysError, match=r"virus\.exe does not belong here"):
        verify_with_run(export, place.dataset)


def test_a_failed_comparison_names_row_and_feature_and_is_recorded(place, export, tmp_path):
    run = shutil.copytree(place.trained.run_dir, tmp_path / "run")
    trained = load_trained(run)
    rows = pl.read_parquet(place.dataset / "test")
    row = int((rows["dense"] > 0).arg_max())
    weights = trained.model.embeddings.store.weights()
    weights["dense"][rows["dense"][row]] += 1.0
    shutil.rmtree(run / "checkpoints")
    save_weights(
        trained.model.dense_state_dict(),
        trained.model.embeddings.store.state(),
        run / "checkpoints" / "best-000000",
    )
    with pytest.raises(RecsysError, match=f"row {row}: .*vector of feature dense differs"):
        verify_with_run(export, place.dataset / "test", run_dir=run)
    for last in load_manifest(export).parity[-4:-2]:
        assert not last.passed
        assert last.max_abs_difference > 1e-5
    assert all(parity.passed for parity in verify_with_run(export, place.dataset))


def test_an_id_that_the_pipeline_encodes_otherwise_is_named(place, export):
    def tampered():
        for raw, encoded in place.raw_chunks():
            ids = encoded["history"].to_list()
            ids[7] = [1, 1, 1, 1]
            yield raw, encoded.with_columns(history=pl.Series(ids, dtype=pl.List(pl.Int32)))

    with pytest.raises(RecsysError, match=r"(?s)history: the export and the data.*row 7 "):
        verify_with_run(export, place.raw, tampered())


def test_a_number_that_the_pipeline_encodes_otherwise_is_named(place, export):
    tampered = (
        (raw, encoded.with_columns(age=pl.col("age") + 0.01)) for raw, encoded in place.raw_chunks()
    )
    with pytest.raises(RecsysError, match="age: the export and the data pipeline encode"):
        verify_with_run(export, place.raw, tampered)


def test_a_missing_raw_column_is_named(place, export):
    chunks = ((raw.drop("shop"), encoded) for raw, encoded in place.raw_chunks())
    with pytest.raises(RecsysError, match="shop: the raw rows have no column 'shop'"):
        verify_with_run(export, place.raw, chunks)


def test_no_rows_is_no_success(place, export):
    with pytest.raises(RecsysError, match="no rows to compare"):
        verify_with_run(export, place.raw, iter([]))


def test_what_is_not_an_export_is_refused(place, tmp_path):
    with pytest.raises(RecsysError, match=r"is not an export: it has no manifest\.json"):
        verify_with_run(tmp_path, place.dataset)


def test_data_that_do_not_fit_are_refused(place, export, tmp_path):
    def refuses(data, match):
        with pytest.raises(RecsysError, match=match):
            verify_with_run(export, data)

    rows = pl.read_parquet(place.dataset / "test")
    refuses(tmp_path / "nothing", "no rows to score")
    refuses(place.raw, "not a complete Parquet file")
    rows.drop("color").write_parquet(tmp_path / "a.parquet")
    refuses(tmp_path / "a.parquet", "no column for the feature 'color'")
    rows.with_columns(color=pl.lit(10**6, pl.Int32)).write_parquet(tmp_path / "b.parquet")
    refuses(tmp_path / "b.parquet", "(?s)color: an id is outside.*1000000")
    content = (tmp_path / "b.parquet").read_bytes()
    (tmp_path / "c.parquet").write_bytes(content[: len(content) // 2])
    refuses(tmp_path / "c.parquet", "not a complete Parquet file")
    other = shutil.copytree(place.dataset, tmp_path / "other")
    schema = json.loads((other / "schema.json").read_text())
    schema["features"][-1]["cardinality"] = 31
    (other / "schema.json").write_text(json.dumps(schema))
    refuses(other, "(?s)the features differ from the export's: tags.*dataset")


def test_the_reader_imports_nothing_of_the_training_side(place):
    program = READER_PROGRAM + (
        "loaded = [m for m in sys.modules if sys.modules[m] is not None]\n"
        "heads = {'.'.join(m.split('.')[:2]) for m in loaded if m.startswith('recsys.')}\n"
        "print(sorted(heads), 'torch' in loaded)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(place.export)],
        input="",
        capture_output=True,
        text=True,
        check=True,
    )
    expected = [
        "config",
        "errors",
        "history_pair",
        "io",
        "lookup_spec",
        "schema",
        "serving",
        "verification",
    ]
    assert done.stdout == f"{[f'recsys.{name}' for name in expected]} False\n"


def test_a_reader_that_dies_is_a_failure_of_ours(place, export, monkeypatch):
    program = "recsys.verification.reader_process.READER_PROGRAM"
    monkeypatch.setattr(program, "raise SystemExit('no room')")
    with pytest.raises(RuntimeError, match="no room"):
        verify_with_run(export, place.dataset)
