"""Every record has a line in the index, and every line its record."""

import json

from benchmarks.harness import ROOT
from benchmarks.record import INDEX, RESULTS, read_index, rounded, write_record


def test_records_and_lines_of_the_index_are_the_same():
    assert {path.stem for path in RESULTS.glob("*.md")} == set(read_index())


def test_every_other_file_belongs_to_a_record():
    stems = tuple(read_index())
    others = [path.name for path in RESULTS.iterdir() if path.suffix != ".md"]
    assert [name for name in others if name != INDEX and not name.startswith(stems)] == []


def test_every_line_names_a_script_that_exists_its_date_and_its_figures():
    for stem, entry in read_index().items():
        assert stem.endswith(entry["date"]), stem
        if entry["script"] is not None:  # a fresh clone was timed by hand
            path = ROOT / "benchmarks" / f"{entry['script'].replace('.', '/')}.py"
            assert path.exists(), stem
            assert entry["figures"], stem
            assert entry["versions"]["python"], stem


def test_the_index_has_one_line_for_each_record():
    lines = (RESULTS / INDEX).read_text().splitlines()
    assert len(lines) == len(read_index()) + 2
    assert lines[1:-1] == sorted(lines[1:-1])


def test_a_new_record_is_added_to_the_index(tmp_path):
    first = write_record("speed.auc", {"seconds": [0.123456789]}, "| a |", results=tmp_path)
    second = write_record("gpu", {"points": 3}, "| b |", name="gpu_small", results=tmp_path)
    assert first.name.startswith("speed_auc_")
    assert "| a |" in first.read_text()
    index = json.loads((tmp_path / INDEX).read_text())
    assert set(index) == {first.stem, second.stem}
    assert index[first.stem]["figures"] == {"seconds": [0.123457]}
    assert index[first.stem]["script"] == "speed.auc"


def test_a_record_of_the_same_day_replaces_the_older_one(tmp_path):
    for rows in (1, 2):
        path = write_record("speed.auc", {"rows": rows}, str(rows), results=tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {path.name, INDEX}
    assert read_index(tmp_path)[path.stem]["figures"] == {"rows": 2}


def test_figures_keep_six_significant_digits():
    assert rounded({"a": (1.23456789, 7, None), "b": {2: 1e-9 / 3}}) == {
        "a": [1.23457, 7, None],
        "b": {"2": 3.33333e-10},
    }
