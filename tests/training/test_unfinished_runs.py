"""A run that has not ended is evaluated and exported; a run does not depend on where it is used."""

import json
import os
import shutil
import signal

import pytest
import yaml

from benchmarks.exactness.folder_comparison import differences
from recsys.cli.runs import open_run
from recsys.config.run import load_config
from recsys.serving.manifest import check_export
from recsys.training.lightning.module import CTRModule
from recsys.training.run_folder.folder import load_run_config
from tests.faults.commands import run
from tests.faults.conftest import CONFIG, write_config

NO_MARK = "the run is not finished: "


def stop_at(monkeypatch, hook, call, number=signal.SIGTERM):
    """Sends this process a signal in the n-th call of a hook of the trained module."""
    original, calls = getattr(CTRModule, hook), []

    def with_signal(self, *arguments):
        calls.append(1)
        if len(calls) == call:
            os.kill(os.getpid(), number)
        return original(self, *arguments)

    monkeypatch.setattr(CTRModule, hook, with_signal)


@pytest.fixture(scope="module")
def stopped(tiny_dataset, tmp_path_factory):
    """Runs stopped by SIGTERM at a step, copied for each test; an epoch has 10 steps."""
    made = {}

    def of(step, target):
        if step not in made:
            folder = tmp_path_factory.mktemp("stopped")
            config = write_config(folder / "config.yaml", tiny_dataset)
            with pytest.MonkeyPatch.context() as patch:
                stop_at(patch, "training_step", step)
                outcome = run("train", config, "--out", folder / "run")
            assert f"stopped by SIGTERM after step {step}" in outcome.err
            made[step] = folder / "run"
        return shutil.copytree(made[step], target)

    return of


def test_without_a_validation_the_last_checkpoint_is_evaluated(stopped, tmp_path):
    folder = stopped(4, tmp_path / "run")
    outcome = run("evaluate", folder)
    assert outcome.code == 0, outcome.err
    assert outcome.err.splitlines() == [
        f"{NO_MARK}its last checkpoint is used (step 4 in epoch 1); "
        f"continue training with `recsys train --resume {folder}`"
    ]
    report = json.loads((folder / "report.json").read_text())
    assert report["best_epoch"] is None
    facts = report["training"]
    assert (facts["finished"], facts["epochs"], facts["steps"]) == (False, 1, 4)
    assert "The run is not finished" in (folder / "report.html").read_text()
    assert not (folder / "training.json").exists()


def test_the_best_checkpoint_so_far_is_used_if_there_is_one(stopped, tmp_path):
    folder = stopped(13, tmp_path / "run")
    outcome = run("evaluate", folder)
    assert outcome.code == 0, outcome.err
    assert f"{NO_MARK}its best checkpoint so far is used (step 10 in epoch 1)" in outcome.err
    facts = json.loads((folder / "report.json").read_text())
    assert (facts["best_epoch"], facts["training"]["steps"]) == (0, 13)


def test_a_damaged_last_checkpoint_does_not_matter_if_the_best_one_is_used(stopped, tmp_path):
    folder = stopped(13, tmp_path / "run")
    (folder / "checkpoints" / "step-000000013" / "state.json").write_text("{")
    outcome = run("evaluate", folder)
    assert outcome.code == 0, outcome.err
    assert "(step 10)" in outcome.err


def test_a_stopped_run_is_exported_and_the_export_says_what_the_run_says(stopped, tmp_path):
    folder = stopped(4, tmp_path / "run")
    outcome = run("export", folder, "--out", tmp_path / "export")
    assert outcome.code == 0, outcome.err
    assert NO_MARK in outcome.err
    assert check_export(tmp_path / "export").parity  # compared with the weights of step 4


def test_a_run_without_any_checkpoint_says_what_to_do(stopped, tmp_path):
    folder = stopped(4, tmp_path / "run")
    shutil.rmtree(folder / "checkpoints")
    assert run("evaluate", folder).is_refusal("has no checkpoint yet", f"--resume {folder}")


def test_a_resumed_run_says_where_it_continues_and_when_it_was_complete(stopped, tmp_path):
    folder = stopped(13, tmp_path / "run")
    first = run("train", "--resume", folder)
    assert first.code == 0, first.err
    assert "training continues after step 13: epoch 2, batch 3 of 10" in first.err.splitlines()
    assert NO_MARK not in first.err
    again = run("train", "--resume", folder)
    assert "training was complete after step 20" in again.err.splitlines()


@pytest.fixture
def elsewhere(tiny_dataset, tmp_path, monkeypatch):
    """A run that was started with a relative data.path, from a folder that is left again."""
    shutil.copytree(tiny_dataset, tmp_path / "there" / "dataset")
    (tmp_path / "other").mkdir()
    content = {**CONFIG, "data": {**CONFIG["data"], "path": "dataset"}}
    (tmp_path / "there" / "config.yaml").write_text(yaml.safe_dump(content))
    monkeypatch.chdir(tmp_path / "there")
    with pytest.MonkeyPatch.context() as patch:
        stop_at(patch, "training_step", 13)
        run("train", "config.yaml", "--out", "run")
    monkeypatch.chdir(tmp_path / "other")
    return tmp_path / "there" / "run"


def test_a_run_is_resumed_evaluated_and_exported_from_any_folder(elsewhere, tmp_path):
    for command in (
        ["train", "--resume", elsewhere],
        ["evaluate", elsewhere],
        ["export", elsewhere, "--out", tmp_path / "export"],
    ):
        outcome = run(*command)
        assert outcome.code == 0, outcome.err


def test_a_dataset_that_has_moved_is_named_and_can_be_given(elsewhere, tmp_path):
    moved = (tmp_path / "there" / "dataset").rename(tmp_path / "moved")
    for command in (["evaluate"], ["export", "--out", tmp_path / "e"], ["train", "--resume"]):
        assert run(*command, elsewhere).is_refusal(
            "the dataset of the run is not found", str(tmp_path / "there/dataset"), "--data DIR"
        )
    assert run("evaluate", elsewhere, "--data", "../moved").code == 0
    assert run("export", elsewhere, "--data", "../moved", "--out", tmp_path / "e").code == 0
    assert run("train", "--resume", elsewhere, "data.path=../moved").code == 0
    assert load_run_config(elsewhere).data.path.samefile(moved)
    assert run("evaluate", elsewhere).code == 0


def test_another_dataset_is_refused(elsewhere, tmp_path):
    other = shutil.copytree(tmp_path / "there" / "dataset", tmp_path / "moved")
    schema = json.loads((other / "schema.json").read_text())
    schema["splits"]["test"]["files"][0]["sha256"] = "0" * 64
    (other / "schema.json").write_text(json.dumps(schema))
    for command in (["evaluate"], ["export", "--out", tmp_path / "e"]):
        outcome = run(*command, elsewhere, "--data", other)
        assert outcome.is_refusal("the dataset has changed since the run was started", str(other))


def test_every_path_of_a_config_is_absolute_once_it_is_read(tiny_dataset, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").symlink_to(tiny_dataset)
    config = write_config(tmp_path / "config.yaml", "data")
    resolved = load_config(config, ["train.warm_start=old"])
    assert resolved.data.path == tmp_path / "data"  # links stay: they may be moved on purpose
    assert resolved.train.warm_start == tmp_path / "old"


def test_a_finished_run_is_opened_without_a_word(tiny_dataset, tmp_path, capsys):
    config = write_config(tmp_path / "config.yaml", tiny_dataset)
    assert run("train", config, "train.epochs=1", "--out", tmp_path / "run").code == 0
    assert open_run(tmp_path / "run").unfinished is None
    assert capsys.readouterr().err == ""


def test_a_run_killed_in_the_last_validation_ends_with_the_same_checkpoints(
    tiny_dataset, tmp_path, monkeypatch
):
    config = write_config(tmp_path / "config.yaml", tiny_dataset)
    whole, resumed = tmp_path / "whole" / "run", tmp_path / "resumed" / "run"
    assert run("train", config, "--out", whole).code == 0
    with monkeypatch.context() as patch:
        patch.setattr(CTRModule, "on_validation_epoch_end", fail_in_call(2))
        with pytest.raises(KilledError):
            run("train", config, "--out", resumed)
    assert (resumed / "checkpoints" / "step-000000020").exists()
    assert run("train", "--resume", resumed).code == 0
    assert differences(whole.parent, resumed.parent) == []


class KilledError(Exception):
    """Nothing more is written: the same as a kill, for what is on the disk."""


def fail_in_call(number):
    original, calls = CTRModule.on_validation_epoch_end, []

    def end(self):
        calls.append(1)
        if len(calls) == number:
            raise KilledError
        original(self)

    return end
