"""metrics.csv after an interruption holds what it would have held without one."""

import polars as pl
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from recsys.io.atomic import remove_folder
from recsys.training.checkpoint.policy import whole_checkpoints
from recsys.training.train import train
from tests.training.test_train import config_of

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def config(tiny_dataset):
    options = ["train.log_every_steps=3", "train.checkpoint_every_steps=7"]
    return config_of(tiny_dataset, *options, "train.keep_checkpoints=99")


@pytest.fixture(scope="module")
def whole(config, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "whole"
    train(config, run)
    return figures_of(run)


def figures_of(run):
    return pl.read_csv(run / "metrics.csv").drop("samples_per_second")


def forget_after(run, step):
    for folder in whole_checkpoints(run / "checkpoints"):
        if int(folder.name.removeprefix("step-")) > step:
            remove_folder(folder)


def test_a_row_every_so_many_steps_and_one_for_each_validation(whole):
    logged = whole.filter(pl.col("valid/auc").is_null())["step"].to_list()
    assert logged == [*range(3, 31, 3)]
    validated = whole.filter(pl.col("valid/auc").is_not_null())
    assert validated["step"].to_list() == [10, 20, 30]
    assert validated["epoch"].to_list() == [1, 2, 3]


@pytest.mark.parametrize("step", [7, 20, 28])
def test_rows_past_the_checkpoint_and_a_cut_line_go(config, whole, tmp_path, step):
    run = tmp_path / "run"
    train(config, run)
    forget_after(run, step)
    with (run / "metrics.csv").open("a") as file:
        file.write("2,30,0.3")
    train(config, run, resume=True)
    assert figures_of(run).equals(whole)


def test_a_log_that_was_lost_starts_again_with_a_header(config, whole, tmp_path):
    run = tmp_path / "run"
    train(config, run)
    forget_after(run, 14)
    (run / "metrics.csv").unlink()
    train(config, run, resume=True)
    assert figures_of(run).equals(whole.filter(pl.col("step") > 14))


def test_tensorboard_shows_each_step_once(config, tmp_path):
    run = tmp_path / "run"
    train(config, run)
    forget_after(run, 14)
    train(config, run, resume=True)
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("train/loss")] == [*range(3, 31, 3)]
