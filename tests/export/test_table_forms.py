"""The list of table forms: a form that is added to it is exported, read, verified and listed."""

import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import load_file
from typer.testing import CliRunner

from recsys.cli.main import app
from recsys.cli.verification import verify
from recsys.errors import RecsysError
from recsys.export.checks.trained_model import RunReference
from recsys.export.write import export_run
from recsys.serving.manifest import load_manifest
from recsys.serving.reader import ExportReader
from recsys.serving.search_stage import SearchStage
from recsys.serving.table_forms import FORMS, form_choices
from recsys.serving.table_forms.base import RowPerId
from recsys.verification.reader_process import READER_PROGRAM
from tests.export import toy_form
from tests.export.toy_form import Float16

ADD_THE_FORM = """
from recsys.serving.table_forms import FORMS
from tests.export.toy_form import Float16
FORMS["float16"] = Float16()
"""


@pytest.fixture
def toy(monkeypatch):
    """The list with one more form, here and in the reader's process."""
    monkeypatch.setitem(FORMS, "float16", Float16())
    program = "recsys.verification.reader_process.READER_PROGRAM"
    poison, start = READER_PROGRAM.split("from pathlib", maxsplit=1)
    monkeypatch.setattr(program, f"{poison}{ADD_THE_FORM}from pathlib{start}")


@pytest.fixture
def export_tables(workplace, tmp_path, monkeypatch):
    """`--tables` choice → an export of the same graphs with these tables."""
    place = workplace("dcn_v2")

    def copy_graphs(*arguments):
        shutil.copytree(place.export / "model", arguments[-1] / "model")
        return load_manifest(place.export).model

    monkeypatch.setattr("recsys.export.write.write_graphs", copy_graphs)
    return lambda tables: export_run(place.trained, tmp_path / f"export-{tables}", tables)


@pytest.mark.usefixtures("toy")
def test_a_form_is_written_read_and_verified_at_its_own_tolerance(workplace, export_tables):
    place, export = workplace("dcn_v2"), export_tables("float16")
    manifest = load_manifest(export)
    assert manifest.forms == ("float16",)
    for feature in manifest.sparse:
        stored = feature.forms["float16"]
        assert stored.dtype == "float16"
        assert load_file(export / stored.file)["vectors"].dtype == np.float16
    rows = pl.read_parquet(place.dataset / "test")
    logits = RunReference(place.trained.model, place.trained.schema).logits(rows)
    scores = ExportReader(export).score(rows, "float16")
    assert 1e-5 < np.abs(scores.logits - logits).max() < 0.1
    data, stored = verify(export, place.dataset)
    for parity in (*manifest.parity, data, stored):
        assert parity.passed
        is_toy = parity.candidate != "whole"
        assert parity.form == ("float16" if is_toy else None)
        assert parity.tolerance == (1e-2 if is_toy else 1e-5)
        assert parity.vector_tolerance == (1e-3 if is_toy else 1e-6)
        assert 0 < parity.max_abs_difference < parity.tolerance
    assert data.max_abs_difference > 1e-5
    assert data.max_vector_difference > 1e-6


@pytest.mark.usefixtures("toy")
@pytest.mark.parametrize(
    ("tolerance", "match"),
    [("tolerance", "give different scores.*± 1e-07"), ("vector_tolerance", "vector of .*± 1e-07")],
)
def test_a_form_whose_tolerance_is_too_tight_fails(
    workplace, export_tables, monkeypatch, tolerance, match
):
    export = export_tables("float16")
    monkeypatch.setattr(Float16, tolerance, 1e-7)
    with pytest.raises(RecsysError, match=f"(?s){match}"):
        verify(export, workplace("dcn_v2").dataset)
    assert not all(parity.passed for parity in load_manifest(export).parity)
    shutil.rmtree(export)
    with pytest.raises(RecsysError, match=f"(?s){match}"):
        export_tables("float16")
    assert not export.exists()


@pytest.mark.usefixtures("toy")
def test_forms_that_differ_by_more_than_the_less_exact_one_allows_are_refused(
    export_tables, monkeypatch
):
    monkeypatch.setattr(Float16, "is_default", True)
    export = export_tables("both")
    assert load_manifest(export).forms == ("materialized", "native", "float16")
    ExportReader(export).check_forms_agree()
    monkeypatch.setattr(Float16, "vector_tolerance", 1e-7)
    with pytest.raises(RecsysError, match="the materialized and float16 forms of the vector of id"):
        ExportReader(export).check_forms_agree()


@pytest.mark.usefixtures("toy")
def test_a_form_is_a_choice_of_the_command_and_in_its_help(workplace, export_tables):
    assert form_choices() == ["both", "materialized", "native", "float16"]
    shown = CliRunner().invoke(app, ["export", "--help"]).output
    assert "float16: one float16 table" in shown
    place = workplace("dcn_v2")
    with pytest.raises(RecsysError, match=r"(?s)unknown table form.*'float16'") as caught:
        export_tables("float61")
    assert "both, materialized, native, float16" in str(caught.value)
    with pytest.raises(RecsysError, match="unknown table form 'nativ'"):
        ExportReader(place.export).score(pl.read_parquet(place.dataset / "test"), "nativ")


def test_an_export_in_a_form_that_is_not_in_the_list_is_refused(export_tables, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setitem(FORMS, "float16", Float16())
        export = export_tables("float16")
    with pytest.raises(RecsysError, match="must be among materialized, native, got float16"):
        load_manifest(export)


def test_the_search_stage_reads_any_form(place_of_histories):
    with pytest.raises(RecsysError, match="unknown table form 'float61'"):
        SearchStage(place_of_histories("dare")[1], form="float61").retrieve(
            {"item": 1, "category": 1}, {"item_history": [1], "category_history": [1]}
        )


def test_the_documentation_shows_the_form():
    page = (Path(__file__).parents[2] / "docs/export.md").read_text()
    shown = page.split("### Add a form")[1].split("```python\n")[1].split("```")[0]
    assert Path(toy_form.__file__).read_text().partition("\n\n")[2] == shown


def test_every_form_states_a_contract():
    for name, form in FORMS.items():
        assert form.name == name
        assert form.description.strip(".") == form.description != ""
        assert np.dtype(form.dtype)
        assert 0 < form.vector_tolerance <= form.tolerance < 1
    assert isinstance(next(iter(FORMS.values())), RowPerId)  # it can hold any embedding
