"""A signal ends training with a checkpoint, and the resumed run equals an uninterrupted one."""

import json
import multiprocessing
import os
import signal
import sys
import time
from functools import cache

import polars as pl
import pytest

from recsys.cli.main import main
from recsys.config.run import dump_config
from recsys.io.stop_signals import SAME_SIGNAL_SECONDS, StopSignals
from recsys.training.checkpoint.policy import whole_checkpoints
from recsys.training.lightning.module import CTRModule
from recsys.training.lightning.signals import StoppedBySignal
from recsys.training.run_folder.trained import load_trained
from recsys.training.train import train
from tests.ranks import run_on_ranks
from tests.training.test_train import assert_same_weights, config_of

pytestmark = pytest.mark.slow

BY_STEPS = ["train.epochs=null", "train.steps=23"]
LENGTHS = {
    "epochs": [],
    "epochs, validation by steps": ["train.validate_every_steps=5"],
    "steps": [*BY_STEPS, "train.validate_every_steps=5"],
    "steps, validation by epochs": BY_STEPS,
    "early stopping": [
        "train.epochs=9",
        "train.early_stopping_patience=1",
        "train.dense_optimizer.learning_rate=1.0",
    ],
}
# the hook that gets a signal, and in which of its calls; an epoch has 10 steps, valid 4 batches
MOMENTS = {
    "the first step": ("training_step", 1),
    "inside an epoch": ("training_step", 13),
    "before a validation": ("training_step", 10),
    "the first batch of a validation": ("validation_step", 1),
    "the last batch of a validation": ("validation_step", 8),
    "the end of a validation": ("on_validation_epoch_end", 1),
}
ALSO = ("inside an epoch", "before a validation", "the last batch of a validation")
CASES = [
    (length, moment)
    for length in LENGTHS
    for moment in MOMENTS
    if length == "epochs" or moment in ALSO
]


def send(monkeypatch, hook, call, number=signal.SIGTERM):
    """Sends this process a signal in the n-th call of a hook of the module."""
    original, calls = getattr(CTRModule, hook), 0

    def with_signal(self, *arguments):
        nonlocal calls
        calls += 1
        if calls == call:
            os.kill(os.getpid(), number)
        return original(self, *arguments)

    monkeypatch.setattr(CTRModule, hook, with_signal)


def outcome_of(run):
    facts = json.loads((run / "training.json").read_text())
    facts["training"] = {name: facts["training"][name] for name in ("epochs", "steps")}
    return facts, pl.read_csv(run / "metrics.csv").drop("samples_per_second")


def assert_same_run(first, second):
    assert_same_weights(
        load_trained(first).model.state_dict(), load_trained(second).model.state_dict()
    )
    (facts, metrics), (other_facts, other_metrics) = outcome_of(first), outcome_of(second)
    assert facts == other_facts
    assert metrics.equals(other_metrics), (metrics, other_metrics)


@pytest.fixture(scope="module")
def whole_run(tiny_dataset, tmp_path_factory):
    """By length: a config and a run of it that nothing has interrupted."""

    @cache
    def of(length):
        run = tmp_path_factory.mktemp("runs") / "whole"
        config = config_of(tiny_dataset, "train.log_every_steps=2", *LENGTHS[length])
        train(config, run)
        return config, run

    return of


@pytest.mark.parametrize(("length", "moment"), CASES)
def test_a_run_stopped_by_a_signal_resumes_to_the_same_bits(
    whole_run, tmp_path, monkeypatch, length, moment
):
    config, whole = whole_run(length)
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        send(patch, *MOMENTS[moment])
        with pytest.raises(StoppedBySignal):
            train(config, run)
    assert not (run / "training.json").exists()
    train(config, run, resume=True)
    assert_same_run(whole, run)


def test_every_validation_may_be_cut_short_and_cut_short_again(whole_run, tmp_path):
    config, whole = whole_run("epochs")
    run = tmp_path / "run"
    for attempt in range(3):
        with pytest.MonkeyPatch.context() as patch:
            send(patch, "validation_step", 2)
            with pytest.raises(StoppedBySignal, match="after step 10"):
                train(config, run, resume=attempt > 0)
    train(config, run, resume=True)
    assert_same_run(whole, run)


def test_a_signal_while_the_run_is_set_up_stops_it_before_the_first_step(
    whole_run, tmp_path, monkeypatch
):
    config, whole = whole_run("epochs")
    with monkeypatch.context() as patch:
        send(patch, "configure_optimizers", 1)
        with pytest.raises(StoppedBySignal, match="stopped by SIGTERM before the first step"):
            train(config, tmp_path / "run")
    train(config, tmp_path / "run", resume=True)
    assert_same_run(whole, tmp_path / "run")


def test_handlers_are_put_back(whole_run, tmp_path, monkeypatch):
    config, _ = whole_run("epochs")
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    send(monkeypatch, "training_step", 2, signal.SIGINT)
    with pytest.raises(StoppedBySignal, match="stopped by SIGINT after step 2"):
        train(config, tmp_path / "run")
    assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)] == before


def signal_twice():
    # The second one comes later than the echo of the first, made by a parent that forwards signals.
    with StopSignals() as signals:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        assert signals.received == signal.SIGTERM
        time.sleep(SAME_SIGNAL_SECONDS + 0.05)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)


def test_a_second_signal_ends_the_process_at_once():
    process = multiprocessing.get_context("forkserver").Process(target=signal_twice)
    process.start()
    process.join(30)
    assert process.exitcode == 128 + signal.SIGINT


def test_the_command_says_how_to_continue_and_does_not_evaluate(
    whole_run, tmp_path, monkeypatch, capsys
):
    config, _ = whole_run("epochs")
    path, run = tmp_path / "config.yaml", tmp_path / "run"
    path.write_text(dump_config(config))
    send(monkeypatch, "training_step", 3)
    monkeypatch.setattr(sys, "argv", ["recsys", "train", str(path), "--out", str(run)])
    with pytest.raises(SystemExit) as exit_:
        main()
    assert not exit_.value.code
    message = f"stopped by SIGTERM after step 3; continue with `recsys train --resume {run}`"
    assert capsys.readouterr().err.splitlines() == [message]
    assert not (run / "predictions").exists()


def steps_on_ranks(dataset, run, number):
    """(step, step of the last checkpoint) of a rank; the second one gets a signal in step 13."""
    config = config_of(dataset, "train.epochs=5", "train.checkpoint_every_steps=7")
    with pytest.MonkeyPatch.context() as patch:
        if os.environ["RANK"] == "1":
            send(patch, "training_step", 13, number)
        try:
            train(config, run)
        except StoppedBySignal as stop:
            return stop.step, stop.signal.name, whole_checkpoints(run / "checkpoints")[-1].name
    return None


@pytest.mark.distributed
def test_ranks_agree_on_where_to_stop(tiny_dataset, tmp_path):
    ranks = run_on_ranks(2, steps_on_ranks, tiny_dataset, tmp_path / "run", signal.SIGINT)
    assert ranks == [(20, "SIGINT", "step-000000020")] * 2
