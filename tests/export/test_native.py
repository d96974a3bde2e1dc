"""The native form of every method, on single- and multi-valued features, from training's end on."""

import hashlib
import json
import shutil
from functools import cache

import numpy as np
import pyarrow as pa
import pytest
from safetensors.numpy import load_file

from recsys.config.run import RunConfig
from recsys.embeddings.memory import Optimizers, count_bytes
from recsys.embeddings.methods.hashed import Hashed
from recsys.embeddings.optimizers import SgdConfig
from recsys.errors import RecsysError
from recsys.export.checks.exported_run import verify_with_run
from recsys.export.write import export_run
from recsys.io.checksums import write_checksums
from recsys.lookup_spec import identity
from recsys.schema import Feature, HashEncoding
from recsys.serving.manifest import load_manifest
from recsys.serving.reader import ExportReader
from tests.embeddings.examples import CARDINALITY, EXAMPLES
from tests.export.conftest import write_run
from tests.tiny_dataset import write_dataset

ROWS = 120
METHODS = {config.method: config for config in EXAMPLES}
FEATURES = [feature for name in METHODS for feature in (name, f"{name}_bag")]
SHARED = {"hashed_bag": "hashed", "mixed_dimension_bag": "mixed_dimension"}
# supernets of a search: what the search finds is exported as `pruned`
WITHOUT_NATIVE_FORM = {"optembed", "dnis"}


def write_rows(folder):
    hashed = HashEncoding()
    features = [
        Feature(name=n, kind="categorical", column=n, encoding=hashed, cardinality=CARDINALITY)
        if not n.endswith("_bag")
        else Feature(
            name=n,
            kind="sequence",
            column=n,
            encoding=hashed,
            cardinality=CARDINALITY,
            separator="|",
            max_length=4,
        )
        for n in FEATURES
    ]

    def table(rng):
        columns = {"label": rng.integers(0, 2, ROWS).astype(np.int8)}
        for feature in features:
            offsets = np.concatenate([[0], np.cumsum(rng.integers(0, 5, ROWS))]).astype(np.int32)
            items = rng.integers(0, CARDINALITY, offsets[-1], dtype=np.int32)
            columns[feature.name] = (
                pa.ListArray.from_arrays(offsets, items)
                if feature.kind == "sequence"
                else rng.integers(0, CARDINALITY, ROWS, dtype=np.int32)
            )
        return pa.table(columns)

    rng = np.random.default_rng(2)
    splits = {split: [table(rng)] for split in ("train", "valid", "test")}
    folder.mkdir()
    write_dataset(folder, features, splits, row_group_rows=64)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A model in which every method embeds one feature of each kind."""
    root = tmp_path_factory.mktemp("native")
    write_rows(root / "dataset")
    features = {f: METHODS[f.removesuffix("_bag")].model_dump(mode="json") for f in FEATURES}
    features |= {reader: {"shares_table_with": owner} for reader, owner in SHARED.items()}
    features["hashed_bag"] |= {"pooling": "sum"}
    content = {
        "data": {"path": root / "dataset", "global_batch_size": 64},
        "embeddings": {
            "default": {"method": "full_table", "embedding_dim": 4},
            "features": features,
        },
        "model": {"name": "dcn_v2", "num_cross_layers": 1, "hidden_dims": [8]},
        "train": {
            "epochs": 1,
            "dense_optimizer": {"learning_rate": 0.1},
            "embedding_optimizer": {"name": "rowwise_adagrad", "learning_rate": 0.1},
            "device": "cpu",
        },
    }
    return write_run(root / "run", RunConfig.model_validate(content))


@pytest.fixture(scope="module")
def exports(trained):
    """`--tables` choice → an export of the model, made once; the graphs are those of "both"."""

    @cache
    def build(tables):
        out = trained.run_dir.parent / f"export-{tables}"
        return export_run(trained, out) if tables == "both" else export_tables(out, tables)

    def export_tables(out, tables):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("recsys.export.write.write_graphs", copy_graphs)
            return export_run(trained, out, tables)

    def copy_graphs(*arguments):
        shutil.copytree(build("both") / "model", arguments[-1] / "model")
        return load_manifest(build("both")).model

    build.tables = export_tables
    return build


@pytest.mark.parametrize("feature", FEATURES)
def test_both_forms_hold_the_vector_of_every_id(trained, exports, feature):
    reader = ExportReader(exports("both"))
    exported = next(f for f in reader.manifest.sparse if f.name == feature)
    expected = trained.model.embeddings.materialize(feature).numpy()
    assert np.abs(expected).max() > 0.1
    ids = np.arange(CARDINALITY)
    for form in exported.forms:
        got = reader.tables.vectors(exported, ids, form)
        np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-6)


def test_verify_compares_every_form_with_the_model(exports, trained):
    export, data = exports("both"), trained.dataset_dir
    forms = [(p.candidate, p.form) for p in load_manifest(export).parity[:3]]
    assert forms == [("dense", "materialized"), ("dense", "native"), ("whole", None)]
    comparisons = verify_with_run(export, data / "test")
    assert [(p.form, p.rows, p.passed) for p in comparisons] == [
        ("materialized", ROWS, True),
        ("native", ROWS, True),
        ("materialized", 2048, True),
        ("native", 2048, True),
    ]
    assert all(p.max_vector_difference < 1e-6 for p in comparisons[:2])
    assert load_manifest(export).parity[-4:] == comparisons


def test_the_native_form_has_the_bytes_that_the_report_counts(trained, exports):
    manifest = load_manifest(exports("native"))
    forms = [f.forms["native"] for f in manifest.sparse if "native" in f.forms]
    files = {table.file for form in forms for table in form.tables.values()}
    files |= {form.file for form in forms} - {None}
    written = sum(
        tensor.nbytes for file in files for tensor in load_file(exports("native") / file).values()
    )
    optimizers = Optimizers(SgdConfig(learning_rate=0.1), dense="sgd")
    methods = trained.model.embeddings.methods
    counted = count_bytes(methods, trained.config.embeddings, optimizers, {}).features
    assert written == sum(
        counted[f.name].serve_bytes for f in manifest.sparse if "native" in f.forms
    )


def test_the_forms_of_every_method_are_compared_when_the_run_is_gone(exports, trained, tmp_path):
    out = shutil.copytree(exports("both"), tmp_path / "far" / "away")
    comparisons = verify_with_run(out, trained.dataset_dir / "test")
    found = [(p.reference, p.passed) for p in comparisons]
    assert found == [(name, True) for name in (None, "form", "stored", "stored")]


def test_a_shared_table_is_written_once(exports):
    plain, native = (
        {f.name: f.forms.get(form) for f in load_manifest(exports("both")).sparse}
        for form in ("materialized", "native")
    )
    for reader, owner in SHARED.items():
        tables = [native[f].tables for f in (reader, owner)]
        assert tables[0] == tables[1]
    assert plain["hashed_bag"].file == plain["hashed"].file
    # each makes something else of its rows, with a projection of its own
    own = ("mixed_dimension_bag", "mixed_dimension")
    assert plain[own[0]].file != plain[own[1]].file
    assert native[own[0]].file != native[own[1]].file
    unified = [native[f].rule.lookups[0] for f in ("unified", "unified_bag")]
    assert unified[0].table == unified[1].table
    assert unified[0].steps != unified[1].steps  # salted apart


def test_an_export_may_have_one_form_only(exports, trained):
    native, plain = (load_manifest(exports(tables)) for tables in ("native", "materialized"))
    assert {tuple(f.forms) for f in plain.sparse} == {("materialized",)}
    assert not (exports("materialized") / "native").exists()
    for feature in native.sparse:
        has_rule = feature.method not in WITHOUT_NATIVE_FORM
        assert list(feature.forms) == ["native" if has_rule else "materialized"]
    assert all(p.passed for p in verify_with_run(exports("native"), trained.dataset_dir / "test"))
    readers = [ExportReader(exports(t)) for t in ("native", "materialized")]
    vectors = [r.tables.vectors(r.manifest.sparse[2], np.arange(9), "native") for r in readers]
    np.testing.assert_allclose(*vectors, rtol=1e-6, atol=1e-6)


def test_a_plain_table_is_one_file_in_both_forms(exports):
    manifest = load_manifest(exports("both"))
    feature = next(f for f in manifest.sparse if f.method == "full_table")
    native = feature.forms["native"]
    assert native.rule == identity(feature.name)
    assert native.tables[feature.name].file == feature.forms["materialized"].file
    assert not (exports("both") / f"native/tables/{feature.name}.safetensors").exists()


def test_a_method_without_a_rule_is_materialized_and_the_manifest_says_so(
    exports, tmp_path, monkeypatch
):
    monkeypatch.setattr(Hashed, "rule", lambda _: None)
    manifest = load_manifest(exports.tables(tmp_path / "export", "native"))
    forms = {f.name: tuple(f.forms) for f in manifest.sparse}
    assert forms["hashed"] == forms["hashed_bag"] == ("materialized",)
    assert "hashed: hashed has no native form" in manifest.notes


def test_tables_that_would_be_too_large_are_left_out_with_a_note(exports, tmp_path, monkeypatch):
    monkeypatch.setattr("recsys.export.table_writer.MATERIALIZED_LIMIT", 1000)
    manifest = load_manifest(exports.tables(tmp_path / "export", "both"))
    forms = {f.name: tuple(f.forms) for f in manifest.sparse}
    assert forms["full_table"] == ("materialized", "native")
    assert forms["hashed"] == ("native",)
    assert any("not materialized" in note and "hashed" in note for note in manifest.notes)


@pytest.fixture
def export(exports, tmp_path):
    """A copy of the export that a test may change."""
    return shutil.copytree(exports("both"), tmp_path / "export")


def change_rule(export, feature, change):
    path = export / "manifest.json"
    manifest = json.loads(path.read_text())
    forms = next(f["forms"] for f in manifest["features"] if f["name"] == feature)
    change(forms["native"]["rule"])
    path.write_text(json.dumps(manifest))
    write_checksums(export)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda rule: rule["lookups"][0]["steps"][0].update(step="cuckoo"), "cuckoo"),
        (lambda rule: rule["vector"].update(operation="median"), "median"),
        (lambda rule: rule.update(version=2), "rule.version"),
        (lambda rule: rule["lookups"][0]["steps"][0].update(version=2), "version"),
        (
            lambda rule: rule["lookups"][0]["steps"][0].update(salt="0x0123456789abcdef"),
            "hash differs",
        ),
        (lambda rule: rule["lookups"][0].update(table="nowhere"), "nowhere"),
        (
            lambda rule: rule["vector"].update(operation="product"),
            "hashed.*native form.*id 0 differ",
        ),
        (lambda rule: rule["vector"].update(operation="concat"), "another width"),
    ],
)
def test_a_rule_that_is_unknown_or_wrong_is_refused(export, change, match):
    change_rule(export, "hashed", change)
    with pytest.raises(RecsysError, match=f"(?s){match}"):
        ExportReader(export).check_forms_agree()


def test_a_native_table_of_another_shape_is_refused_by_verify(export, trained):
    native = [f.forms["native"] for f in load_manifest(export).sparse if "native" in f.forms]
    tables = {name: table.file for form in native for name, table in form.tables.items()}
    shutil.copyfile(export / tables["full_table"], export / tables["hashed"])
    write_checksums(export)
    with pytest.raises(RecsysError, match=r"(?s)the table is damaged.*20, 4.*50, 4"):
        verify_with_run(export, trained.dataset_dir / "test")


def test_two_exports_of_one_run_have_equal_native_files(exports):
    def digests(tables):
        folder = exports(tables) / "native"
        files = [path for path in folder.rglob("*") if path.is_file()]
        return {p.relative_to(folder): hashlib.sha256(p.read_bytes()).digest() for p in files}

    both, native = digests("both"), digests("native")
    assert both.items() <= native.items()
