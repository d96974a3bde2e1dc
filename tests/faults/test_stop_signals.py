"""SIGTERM and Ctrl-C in any phase of any command: one line, a documented exit code, no remains."""

import os
import signal
import sys

import pytest
import yaml

import data_pipelines
from data_pipelines import __main__ as data_pipelines_main
from data_pipelines import pipeline
from recsys.evaluation import score as evaluation
from recsys.export import write as export
from recsys.io.stop_signals import Interrupted, StopSignals, ended_by_signals
from recsys.search import optembed as optembed_search
from recsys.training.lightning.module import CTRModule
from tests.faults.commands import files_below, run
from tests.faults.conftest import CONFIG

CODES = {signal.SIGTERM: 143, signal.SIGINT: 130}


def signal_in(monkeypatch, place, name, number=signal.SIGTERM, before=0):
    """Sends this process a signal when a function is called for the time after `before`."""
    original, calls = getattr(place, name), []

    def with_signal(*arguments, **options):
        calls.append(1)
        if len(calls) == before + 1:
            os.kill(os.getpid(), number)
        return original(*arguments, **options)

    monkeypatch.setattr(place, name, with_signal)


@pytest.fixture
def recipe(tmp_path):
    rows = "".join(f"{i % 2},c{i % 7},{i}.5\n" for i in range(200))
    (tmp_path / "rows.csv").write_text("label,color,price\n" + rows)
    (tmp_path / "recipe.yaml").write_text(
        "{name: rows, label: {column: label}, categorical: {columns: [color]}, "
        "numerical: {columns: [price]}, split: {method: random}}"
    )
    return [str(tmp_path / "recipe.yaml"), "--raw", str(tmp_path / "rows.csv")]


@pytest.mark.parametrize("number", CODES)
@pytest.mark.parametrize(
    ("place", "phase"),
    [
        (pipeline, "_stage"),
        (pipeline, "_fit"),
        (pipeline, "_write"),
        (data_pipelines, "save_schema"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_prepare_is_stopped(monkeypatch, tmp_path, recipe, number, place, phase):
    signal_in(monkeypatch, place, phase, number)
    outcome = run("prepare", *recipe, "--out", tmp_path / "out")
    assert outcome.code == CODES[number]
    assert outcome.err.splitlines()[-1] == f"stopped by {signal.Signals(number).name}"
    assert "Traceback" not in outcome.err
    assert files_below(tmp_path) == ["recipe.yaml", "rows.csv"]


def test_prepare_without_torch_is_stopped_in_the_same_way(monkeypatch, tmp_path, recipe, capsys):
    signal_in(monkeypatch, pipeline, "_write")
    arguments = ["data_pipelines", *recipe, "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as exit_:
        data_pipelines_main.main()
    assert exit_.value.code == 143
    assert capsys.readouterr().err == "stopped by SIGTERM\n"
    assert files_below(tmp_path) == ["recipe.yaml", "rows.csv"]


def test_export_is_stopped(monkeypatch, tmp_path, trained):
    for place in ("_copy_vocabularies", "write_graphs", "compare_with_run", "write_checksums"):
        with monkeypatch.context() as patch:
            signal_in(patch, export, place)
            outcome = run("export", trained, "--out", tmp_path / "export")
        assert (outcome.code, outcome.err) == (143, "stopped by SIGTERM\n"), place
        assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


@pytest.mark.parametrize("before", [0, 3])
def test_evaluate_is_stopped(monkeypatch, trained, before):
    left = files_below(trained)
    signal_in(monkeypatch, evaluation, "_record_batch", before=before)
    outcome = run("evaluate", trained)
    line = f"stopped by SIGTERM; continue with `recsys evaluate {trained}`\n"
    assert (outcome.code, outcome.err) == (143, line)
    assert files_below(trained) == left


def test_the_evaluation_after_training_is_stopped_and_resumed(monkeypatch, tmp_path, config):
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        signal_in(patch, evaluation, "_record_batch", before=5)
        outcome = run("train", config, "--out", folder)
    assert outcome.code == 143
    line = f"stopped by SIGTERM; continue with `recsys train --resume {folder}`"
    assert outcome.err.splitlines()[-1] == line
    assert not [name for name in files_below(folder) if name.endswith("partial")]
    assert run("train", "--resume", folder).code == 0
    assert (folder / "report.json").exists()


def test_a_signal_at_the_very_end_of_training_is_not_forgotten(monkeypatch, tmp_path, config):
    signal_in(monkeypatch, CTRModule, "teardown")
    outcome = run("train", config, "--out", tmp_path / "run")
    assert outcome.code == 143
    assert "recsys train --resume" in outcome.err.splitlines()[-1]
    assert not (tmp_path / "run" / "predictions").exists()


@pytest.mark.parametrize("place", ["read_state", "choose"])
def test_a_search_is_stopped_while_it_chooses(monkeypatch, tmp_path, tiny_dataset, place):
    content = {
        **CONFIG,
        "data": {**CONFIG["data"], "path": str(tiny_dataset)},
        "embeddings": {"default": {"method": "optembed", "embedding_dim": 8}},
        "search": {"name": "optembed", "generations": 1, "mutations": 2, "crossovers": 2},
    }
    config, out = tmp_path / "config.yaml", tmp_path / "search"
    config.write_text(yaml.safe_dump(content))
    with monkeypatch.context() as patch:
        signal_in(patch, optembed_search, place)
        outcome = run("search", config, "--out", out)
    assert "Traceback" not in outcome.err
    assert outcome.err.splitlines()[-1].endswith(f"continue with `recsys search --resume {out}`")
    assert not (out / "allocation.json").exists()
    assert run("search", "--resume", out).code == 0
    assert (out / "allocation.json").exists()


def test_an_error_that_a_library_makes_of_the_interrupt_is_not_shown(capsys):
    def command():
        with ended_by_signals():
            try:
                os.kill(os.getpid(), signal.SIGTERM)
            except BaseException as error:
                raise ValueError("a callback failed") from error

    with pytest.raises(SystemExit) as exit_:
        command()
    assert exit_.value.code == 143
    assert capsys.readouterr().err == "stopped by SIGTERM\n"


def test_without_a_signal_errors_pass(capsys):
    with pytest.raises(KeyError), ended_by_signals():
        raise KeyError
    assert capsys.readouterr().err == ""


def test_a_noted_signal_that_nobody_acted_on_goes_to_the_outer_handler():
    def raise_interrupted(number):
        raise Interrupted(number)

    def end_with_a_noted_signal():
        with StopSignals() as inner:
            os.kill(os.getpid(), signal.SIGTERM)
            assert inner.received == signal.SIGTERM

    with StopSignals(raise_interrupted), pytest.raises(Interrupted):
        end_with_a_noted_signal()
