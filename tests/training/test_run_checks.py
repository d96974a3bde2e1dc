"""Runs that cannot work are refused before the first step; small data adjust what they must."""

import pytest
import torch

from recsys.errors import RecsysError
from recsys.schema import Split, load_schema
from recsys.training import preflight as run_checks
from recsys.training.preflight import check_run, fit_to_data
from recsys.training.train import train
from tests.training.test_train import config_of


@pytest.fixture
def config(tiny_dataset):
    return config_of(tiny_dataset)


def with_split(schema, name, rows, positives):
    split = Split(rows=rows, positives=positives, files=())
    return schema.model_copy(update={"splits": {**schema.splits, name: split}})


@pytest.mark.parametrize("name", ["train", "valid"])
@pytest.mark.parametrize(
    ("rows", "positives", "got"),
    [(100, 0, "all of label 0"), (100, 100, "all of label 1"), (0, 0, "no rows")],
)
def test_a_split_of_one_class_is_refused_before_the_first_step(
    config, tiny_dataset, name, rows, positives, got
):
    schema = with_split(load_schema(tiny_dataset), name, rows, positives)
    with pytest.raises(RecsysError, match=rf"the {name} split(.|\n)*{got}"):
        check_run(config, schema)


def test_a_test_split_of_one_class_does_not_stop_training(config, tiny_dataset):
    check_run(config, with_split(load_schema(tiny_dataset), "test", 100, 0))


def test_a_run_shorter_than_its_validation_interval_validates_after_each_epoch(
    config, tiny_dataset
):
    late = config.model_copy(
        update={"train": config.train.model_copy(update={"validate_every_steps": 1_000_000})}
    )
    fitted, notes = fit_to_data(late, load_schema(tiny_dataset))
    assert fitted.train.validate_every_steps is None
    assert "1000000" in notes[0]
    assert "each epoch" in notes[0]


def test_a_run_limited_by_steps_validates_after_its_last_step(config, tiny_dataset):
    few = {"epochs": None, "steps": 3, "validate_every_steps": 5}
    short = config.model_copy(update={"train": config.train.model_copy(update=few)})
    fitted, notes = fit_to_data(short, load_schema(tiny_dataset))
    assert fitted.train.validate_every_steps == 3
    assert len(notes) == 1


def test_a_config_that_fits_is_left_as_it_is(config, tiny_dataset):
    assert fit_to_data(config, load_schema(tiny_dataset)) == (config, ())


def test_bf16_trains_on_any_cpu_and_says_when_it_is_emulated(config, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run_checks, "has_bf16", lambda device: False)
    bf16 = {"precision": "bf16", "epochs": None, "steps": 3}
    run = config.model_copy(update={"train": config.train.model_copy(update=bf16)})
    train(run, tmp_path / "run")
    assert "bf16 is emulated" in capsys.readouterr().err


def test_a_gpu_without_bf16_arithmetic_is_still_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    with pytest.raises(RecsysError, match="no bf16"):
        run_checks.check_bf16(torch.device("cuda"))
