"""What may happen while a run is under way: files vanish, clocks jump, a second run comes."""

import gc
import json
import os
import shutil
import signal
import threading
import time

import pytest

from recsys.data import parquet
from recsys.training.lightning import module as lightning_module
from tests.faults.commands import run

PART = "part-00001.parquet"
SMALL_MEMORY = ["data.shuffle_rows=64", "data.num_shards=1"]  # files are read again every epoch


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def at_step(monkeypatch):
    """Does something before a given step of the training that follows."""

    def do(step, action):
        train_one = lightning_module.CTRModule.training_step
        seen = []

        def training_step(module, batch, batch_index):
            seen.append(batch)
            if len(seen) == step:
                action(module)
            return train_one(module, batch, batch_index)

        monkeypatch.setattr(lightning_module.CTRModule, "training_step", training_step)

    return do


@pytest.mark.parametrize("step", [2, 10, 11], ids=["in the first epoch", "at its end", "between"])
@pytest.mark.parametrize("loss", ["gone", "cut"])
def test_a_file_that_vanishes_is_named_and_the_checkpoints_stay(
    damaged, dataset, tmp_path, at_step, step, loss
):
    path = dataset / "train" / PART

    def lose(_):
        path.unlink() if loss == "gone" else path.write_bytes(path.read_bytes()[:2000])

    at_step(step, lose)
    out = tmp_path / "run"
    options = ["train.epochs=5", "data.prefetch_batches=1", *SMALL_MEMORY]
    assert run("train", damaged, *options, "--out", out).is_refusal(
        "not found" if loss == "gone" else "truncated, damaged", f"train/{PART}"
    )
    assert not (out / "training.json").exists()
    if step > 10:
        shutil.copytree(dataset, tmp_path / "lost")  # the file comes back and training goes on


def test_a_data_set_that_vanishes_whole(damaged, dataset, tmp_path, at_step):
    at_step(3, lambda _: shutil.rmtree(dataset))
    options = ["train.epochs=5", "data.prefetch_batches=1", *SMALL_MEMORY]
    assert run("train", damaged, *options, "--out", tmp_path / "run").is_refusal(
        "file of the dataset not found"
    )


def test_a_run_folder_that_vanishes(config, tmp_path, at_step):
    at_step(4, lambda _: shutil.rmtree(tmp_path / "run"))
    assert run("train", config, "--out", tmp_path / "run").is_refusal(str(tmp_path / "run"))


def test_an_error_in_a_background_thread_is_one_message(config, tmp_path, monkeypatch):
    read = parquet.RowGroups.read
    calls = []

    def fail(groups, number):
        calls.append(number)
        if len(calls) > 3:
            raise PermissionError(13, "Permission denied", "a-file")
        return read(groups, number)

    monkeypatch.setattr(parquet.RowGroups, "read", fail)
    outcome = run("train", config, "data.num_workers=4", "--out", tmp_path / "run")
    assert outcome.is_refusal("Permission denied", "a-file")
    gc.collect()  # the exception's traceback holds the loader
    wait_for(lambda: not any(t.name.startswith("batch-loader") for t in threading.enumerate()))


@pytest.mark.parametrize("jump", [-1e9, 1e9])
def test_a_clock_that_jumps_changes_nothing(config, tmp_path, at_step, monkeypatch, jump):
    assert run("train", config, "--out", tmp_path / "calm").code == 0
    real = time.time
    at_step(5, lambda _: monkeypatch.setattr(time, "time", lambda: real() + jump))
    outcome = run("train", config, "--out", tmp_path / "jump")
    assert outcome.code == 0, outcome.err
    facts = json.loads((tmp_path / "jump" / "training.json").read_text())["training"]
    assert 0 < facts["samples_per_second"] < 1e7
    calm, jumped = (tmp_path / name / "predictions/test.parquet" for name in ("calm", "jump"))
    assert calm.read_bytes() == jumped.read_bytes()


DIVERGING = {
    "the tables' rate": ["train.embedding_optimizer={name: sgd, learning_rate: 1.0e+38}"],
    "the network's rate": ["train.dense_optimizer={name: sgd, learning_rate: 1.0e+38}"],
}


@pytest.mark.parametrize("store", ["fused", "plain"])
@pytest.mark.parametrize("options", DIVERGING.values(), ids=DIVERGING)
def test_a_run_that_diverges_stops_and_keeps_good_checkpoints(config, tmp_path, options, store):
    outcome = run("train", config, *options, f"embeddings.store={store}", "--out", tmp_path / "run")
    assert outcome.is_refusal("is not finite", "epoch 1", "learning_rate")
    assert not (tmp_path / "run" / "report.json").exists()


@pytest.mark.parametrize("where", ["table", "layer"])
def test_a_weight_that_goes_bad_is_named_and_not_saved(config, tmp_path, at_step, where):
    def spoil(module):
        model = module.model
        shard = next(s for s in model.embeddings.store.shards() if s.table.name == "item")
        target = shard.weight[3] if where == "table" else next(iter(model.network.parameters()))
        target.detach().view(-1)[0] = float("nan")

    at_step(7, spoil)
    outcome = run("train", config, "--out", tmp_path / "run")
    assert outcome.is_refusal("'item', id 3" if where == "table" else "network.", "not finite")
    saved = sorted(path.name for path in tmp_path.glob("run/checkpoints/step-*"))
    assert saved == ["step-000000005"]


def test_rows_that_go_bad_in_the_last_step_are_neither_the_best_nor_saved(
    config, tmp_path, at_step
):
    def spoil(module):
        def register(_module, _inputs, output):
            output.register_hook(lambda gradient: gradient * float("nan"))

        handle = module.model.embeddings.store.groups["pooled"].register_forward_hook(register)
        module.spoilt = handle

    at_step(20, spoil)
    outcome = run("train", config, "--out", tmp_path / "run")
    assert outcome.is_refusal("not finite", "table", "feature", "epoch 2, batch 10")
    saved = sorted(path.name for path in tmp_path.glob("run/checkpoints/[!.]*"))
    assert saved == ["best-000000010", "step-000000010", "step-000000015"]


def test_a_gradient_that_goes_bad_is_named_before_the_step(config, tmp_path, at_step):
    def spoil(module):
        parameter = module.model.network.model.head.weight
        parameter.register_hook(lambda gradient: gradient * float("inf"))

    at_step(3, spoil)
    outcome = run("train", config, "--out", tmp_path / "run")
    assert outcome.is_refusal("gradient", "network.model.head.weight", "epoch 1, batch 3")


@pytest.mark.slow
def test_a_second_run_into_the_same_folder_is_refused_and_the_first_goes_on(
    forked, config, tmp_path
):
    out = tmp_path / "run"
    first = forked.start("train", config, "train.epochs=200", "--out", out)
    wait_for(lambda: list(out.glob("checkpoints/step-*")))
    for command in (["train", config, "--out", out], ["train", "--resume", out]):
        outcome = forked.run(*command)
        assert outcome.is_refusal("at work in this run folder", str(out), "--out")
    os.kill(first.pid, signal.SIGTERM)
    assert first.wait().code == 0
    assert forked.run("train", "train.epochs=1", "--resume", out).code == 0


@pytest.mark.slow
def test_two_that_start_at_once_are_one_run_and_one_refusal(forked, config, tmp_path):
    commands = [forked.start("train", config, "--out", tmp_path / "run") for _ in range(2)]
    outcomes = sorted((command.wait() for command in commands), key=lambda o: o.code)
    assert outcomes[0].code == 0, outcomes[0].err
    assert outcomes[1].is_refusal(str(tmp_path / "run"))


@pytest.mark.slow
def test_a_killed_run_holds_no_lock(forked, config, tmp_path):
    out = tmp_path / "run"
    first = forked.start("train", config, "train.epochs=200", "--out", out)
    wait_for(lambda: list(out.glob("checkpoints/step-*")))
    os.kill(first.pid, signal.SIGKILL)
    assert first.wait().code == -signal.SIGKILL
    outcome = forked.run("train", "train.epochs=2", "--resume", out)
    assert outcome.code == 0, outcome.err


@pytest.mark.slow
def test_two_exports_at_once_leave_something_whole(forked, trained, tiny_dataset, tmp_path):
    export = tmp_path / "export"
    commands = [forked.start("export", trained, "--out", export) for _ in range(2)]
    codes = [command.wait().code for command in commands]
    assert 0 in codes
    assert forked.run("verify", export, "--data", tiny_dataset / "test").code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["export", "run"]


@pytest.mark.slow
def test_two_prepares_at_once_are_one_data_set_and_one_refusal(forked, tmp_path):
    rows = "".join(f"{i % 2},c{i % 500},{i}.5\n" for i in range(400_000))
    (tmp_path / "rows.csv").write_text("label,color,price\n" + rows)
    (tmp_path / "recipe.yaml").write_text(
        "{name: rows, label: {column: label}, categorical: {columns: [color]}, "
        "numerical: {columns: [price]}, split: {method: random}}"
    )
    out = tmp_path / "dataset"
    command = ["prepare", tmp_path / "recipe.yaml", "--raw", tmp_path / "rows.csv", "--out", out]
    first = forked.start(*command)
    wait_for(lambda: any(tmp_path.glob(".dataset.*.partial")))
    assert forked.run(*command).is_refusal("another process is preparing", str(out))
    assert first.wait().code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "dataset",
        "recipe.yaml",
        "rows.csv",
    ]
    assert forked.run(*command).is_refusal("exists already")
    first = forked.start(*command, "--overwrite")
    wait_for(lambda: any(tmp_path.glob(".dataset.*.partial")))
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    assert (out / "schema.json").exists()
    assert forked.run(*command, "--overwrite").code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "dataset",
        "recipe.yaml",
        "rows.csv",
    ]
