"""A signal ends training with a checkpoint, and the resumed run equals an uninterrupted one."""

import json
import os
import signal
import subprocess
import sys
import time

import polars as pl
import pytest

from recsys.training.lightning_module import CTRModule
from recsys.training.runs import load_trained
from recsys.training.signals import StoppedBySignal, StopSignals
from recsys.training.train import train
from tests.training.test_train import assert_same_weights, config_of

pytestmark = pytest.mark.slow

LENGTHS = {
    "epochs": [],
    "epochs, validation by steps": ["train.validate_every_steps=5"],
    "steps": ["train.epochs=null", "train.steps=23", "train.validate_every_steps=5"],
    "steps, validation by epochs": ["train.epochs=null", "train.steps=23"],
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


@pytest.fixture(scope="module", params=LENGTHS.values(), ids=LENGTHS)
def whole_run(request, tiny_dataset, tmp_path_factory):
    """A config and a run of it that nothing has interrupted."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    config = config_of(tiny_dataset, "train.log_every_steps=2", *request.param)
    train(config, run)
    return config, run


@pytest.mark.parametrize(("hook", "call"), MOMENTS.values(), ids=MOMENTS)
def test_a_run_stopped_by_a_signal_resumes_to_the_same_bits(
    whole_run, tmp_path, monkeypatch, hook, call
):
    config, whole = whole_run
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        send(patch, hook, call)
        with pytest.raises(StoppedBySignal):
            train(config, run)
    assert not (run / "training.json").exists()
    train(config, run, resume=True)
    assert_same_run(whole, run)


def test_every_validation_may_be_cut_short(tiny_dataset, tmp_path):
    config = config_of(tiny_dataset)
    train(config, tmp_path / "whole")
    for attempt in range(4):
        with pytest.MonkeyPatch.context() as patch:
            send(patch, "validation_step", 2)
            if attempt == 3:
                continue
            with pytest.raises(StoppedBySignal):
                train(config, tmp_path / "run", resume=attempt > 0)
    train(config, tmp_path / "run", resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "run")
