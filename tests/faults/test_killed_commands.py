"""prepare, search, export and evaluate, ended by kill -9 and run again: the same bytes, no remains.

`python -m benchmarks.exactness.kill_and_resume` does the same many times, on more rows.
"""

import json
import random
import shutil
from pathlib import Path

import pytest
import yaml

from benchmarks.exactness import folder_comparison
from benchmarks.exactness.folder_comparison import MAY_DIFFER, differences
from benchmarks.exactness.killed_commands import Task, run_task
from tests.faults.commands import run
from tests.faults.conftest import CONFIG


@pytest.fixture
def killed(forked, tmp_path):
    """Kills a command twice, at random moments; the differences in the end."""

    def do(task, kills=2):
        (tmp_path / "places").mkdir()
        result = run_task(task, forked.start, tmp_path / "places", kills, random.Random(5))
        assert len(result["kills"]) == kills
        return result["differences"]

    return do


@pytest.mark.slow
def test_prepare_writes_the_same_bytes(killed, tmp_path):
    rows = "".join(f"{i % 2},c{i % 500},{i}.5\n" for i in range(100_000))
    (tmp_path / "rows.csv").write_text("label,color,price\n" + rows)
    (tmp_path / "recipe.yaml").write_text(
        "{name: rows, label: {column: label}, categorical: {columns: [color]}, "
        "numerical: {columns: [price]}, split: {method: random}}"
    )
    arguments = [str(tmp_path / "recipe.yaml"), "--raw", str(tmp_path / "rows.csv")]
    overwrite = lambda place: ["--overwrite"] if (place / "dataset").exists() else []  # noqa: E731
    task = Task(
        "prepare",
        lambda place: ["prepare", *arguments, "--out", str(place / "dataset"), *overwrite(place)],
        "dataset",
    )
    assert killed(task, kills=4) == []


@pytest.mark.slow
def test_export_writes_the_same_bytes(killed, finished_run):
    command = ["export", str(finished_run), "--out"]
    task = Task("export", lambda place: [*command, str(place / "export")], "export")
    assert killed(task, kills=1) == []


@pytest.mark.slow
@pytest.mark.parametrize("method", ["optembed", "dnis"])
def test_a_search_goes_on_to_the_same_bytes(killed, tiny_dataset, tmp_path, method):
    content = {
        **CONFIG,
        "data": {**CONFIG["data"], "path": str(tiny_dataset)},
        "embeddings": {"default": {"method": method, "embedding_dim": 8}},
        "search": {"name": method, "budget_share": 0.5},
    }
    if method == "optembed":
        content["search"] |= {"generations": 3, "mutations": 3, "crossovers": 3}
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(content))

    def command(place):
        if (place / "search" / "supernet" / "config.yaml").exists():
            return ["search", "--resume", str(place / "search")]
        return ["search", str(config), "--out", str(place / "search")]

    assert killed(Task("search", command, "search", appears_whole=False)) == []


@pytest.mark.slow
def test_evaluate_writes_the_same_bytes(killed, finished_run):
    def begin(place):
        kept_out = shutil.ignore_patterns("report.*", "predictions")
        shutil.copytree(finished_run, place / "run", ignore=kept_out)

    command = lambda place: ["evaluate", str(place / "run")]  # noqa: E731
    assert killed(Task("evaluate", command, "run", appears_whole=False, begin=begin)) == []


CHANGES = {
    "a byte of the weights": ("checkpoints/step-000000020/tensors.safetensors", b"x"),
    "another file": ("notes.txt", b""),
    "a hidden file": (".report.json.12-0123abcd.partial", b""),
    "a line of the log": ("metrics.csv", b"9,9,9,9,9,9,9,9\n"),
    "a checksum": ("checkpoints/step-000000020/SHA256SUMS", b"0" * 64 + b"  other\n"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_any_other_byte_is_a_difference(finished_run, tmp_path, change):
    name, added = change
    copy = shutil.copytree(finished_run, tmp_path / "run")
    with (copy / name).open("ab") as file:
        file.write(added)
    assert [found.split(" ")[0] for found in differences(finished_run, copy)] == [name]


def change_json(path, *keys, value=0):
    content = json.loads(path.read_text())
    node = content
    for key in keys[:-1]:
        node = node[key]
    node[keys[-1]] = value
    path.write_text(json.dumps(content))


def test_only_the_listed_fields_may_differ(finished_run, tmp_path):
    copy = shutil.copytree(finished_run, tmp_path / "run")
    change_json(copy / "training.json", "training", "peak_rss_bytes")
    change_json(copy / "report.json", "training", "samples_per_second")
    assert differences(finished_run, copy) == []
    change_json(copy / "training.json", "training", "steps")
    assert differences(finished_run, copy) == ["training.json"]


def test_the_readme_lists_what_may_differ():
    text = (Path(folder_comparison.__file__).parents[1] / "README.md").read_text()
    for pattern, fields in MAY_DIFFER.items():
        assert f"`{pattern}`" in text
        assert all(f"`{field}`" in text for field in fields or ())


def test_a_run_resumed_after_its_end_changes_nothing(finished_run, tmp_path):
    copy = shutil.copytree(finished_run, tmp_path / "run")
    assert run("train", "--resume", copy).code == 0
    assert differences(finished_run, copy) == []
