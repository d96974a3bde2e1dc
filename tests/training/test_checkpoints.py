"""When checkpoints are taken, which are kept, and which one a run continues from."""

from types import SimpleNamespace

import pytest
import torch

from recsys.config.train import TrainConfig
from recsys.errors import RecsysError
from recsys.training.checkpoint import io as checkpoint_io
from recsys.training.checkpoint.io import SafetensorsCheckpointIO
from recsys.training.checkpoint.policy import (
    Checkpoints,
    checkpoint_io_of,
    latest_whole_checkpoint,
    whole_checkpoints,
)

# ends the name of what a dead process was writing
DEAD = "2-0123abcd.partial"


class Trainer:
    """What the callback needs of Lightning's Trainer."""

    def __init__(self):
        self.global_step = 0
        self.strategy = SimpleNamespace(checkpoint_io=SafetensorsCheckpointIO())

    def save_checkpoint(self, path):
        state = {"step": self.global_step, "tables": {"C1/weight": torch.zeros(2, 4)}}
        self.strategy.checkpoint_io.save_checkpoint(state, path)


@pytest.fixture
def trainer():
    trainer = Trainer()
    yield trainer
    trainer.strategy.checkpoint_io.teardown()


def checkpoints(folder, **options) -> Checkpoints:
    config = {
        "epochs": 1,
        "dense_optimizer": {"learning_rate": 0.1},
        "embedding_optimizer": {"name": "sgd", "learning_rate": 0.1},
    }
    return Checkpoints(TrainConfig(**config, **options), folder)


def train(trainer, callback, steps):
    for _ in range(steps):
        trainer.global_step += 1
        callback.on_train_batch_end(trainer, None, None, None, 0)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def fail(*_):
    raise OSError(28, "No space left on device")


def test_one_is_taken_every_so_many_steps_and_at_the_end_of_an_epoch(trainer, tmp_path):
    callback = checkpoints(tmp_path, checkpoint_every_steps=2, keep_checkpoints=9)
    train(trainer, callback, 5)
    callback.on_train_epoch_end(trainer, None)
    callback.on_fit_end(trainer, None)
    assert names(tmp_path) == ["step-000000002", "step-000000004", "step-000000005"]


def test_only_the_last_are_kept(trainer, tmp_path):
    callback = checkpoints(tmp_path, checkpoint_every_steps=1, keep_checkpoints=2)
    train(trainer, callback, 5)
    callback.on_fit_end(trainer, None)
    assert names(tmp_path) == ["step-000000004", "step-000000005"]


def test_old_ones_go_only_when_the_new_one_is_whole(trainer, tmp_path, monkeypatch):
    callback = checkpoints(tmp_path, checkpoint_every_steps=1, keep_checkpoints=1)
    train(trainer, callback, 1)
    callback.on_fit_end(trainer, None)
    monkeypatch.setattr(checkpoint_io, "write_staged", fail)
    train(trainer, callback, 1)
    with pytest.raises(RecsysError, match="No space left on device"):
        callback.on_fit_end(trainer, None)
    assert names(tmp_path) == ["step-000000001"]


def test_save_now_returns_when_it_is_whole(trainer, tmp_path):
    trainer.global_step = 7
    checkpoints(tmp_path).save_now(trainer)
    assert names(tmp_path) == ["step-000000007"]


def test_after_another_exception_the_last_one_is_finished_and_its_failure_told(
    trainer, tmp_path, monkeypatch, capsys
):
    callback = checkpoints(tmp_path, checkpoint_every_steps=1)
    train(trainer, callback, 1)
    callback.on_exception(trainer, None, KeyboardInterrupt())
    assert names(tmp_path) == ["step-000000001"]
    monkeypatch.setattr(checkpoint_io, "write_staged", fail)
    train(trainer, callback, 1)
    callback.on_exception(trainer, None, KeyboardInterrupt())
    assert "No space left on device" in capsys.readouterr().err


def test_another_checkpoint_io_is_refused():
    trainer = SimpleNamespace(strategy=SimpleNamespace(checkpoint_io=object()))
    with pytest.raises(TypeError, match="object"):
        checkpoint_io_of(trainer)


@pytest.fixture
def three(trainer, tmp_path):
    callback = checkpoints(tmp_path, checkpoint_every_steps=1, keep_checkpoints=9)
    train(trainer, callback, 3)
    callback.on_fit_end(trainer, None)
    return tmp_path


def test_a_run_continues_from_the_newest(three, capsys):
    assert latest_whole_checkpoint(three).name == "step-000000003"
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "file", ["state.json", "tensors.safetensors", "SHA256SUMS", "tables/rank-00000.safetensors"]
)
def test_damaged_newer_ones_are_passed_over_in_one_line_each(three, capsys, file):
    damaged = three / "step-000000003" / file
    content = damaged.read_bytes()
    damaged.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    (three / "step-000000002" / file).unlink()
    assert latest_whole_checkpoint(three).name == "step-000000001"
    first, second = capsys.readouterr().err.splitlines()
    assert "step-000000003 is passed over" in first
    assert file in first
    assert "step-000000002 is passed over" in second
    assert file in second


def test_a_damaged_newer_one_does_not_cost_a_good_one(trainer, three):
    (three / "step-000000003" / "state.json").unlink()
    trainer.global_step = 1  # where the run continues
    callback = checkpoints(three, checkpoint_every_steps=1, keep_checkpoints=1)
    train(trainer, callback, 1)
    callback.on_fit_end(trainer, None)
    assert latest_whole_checkpoint(three).name == "step-000000002"
    train(trainer, callback, 1)
    callback.on_fit_end(trainer, None)
    assert names(three) == ["step-000000003"]
    assert latest_whole_checkpoint(three).name == "step-000000003"


def test_where_none_is_whole_there_is_none(three, tmp_path):
    for folder in whole_checkpoints(three):
        (folder / "SHA256SUMS").unlink()
    assert latest_whole_checkpoint(three) is None
    assert latest_whole_checkpoint(tmp_path / "not there") is None


def test_what_killed_writers_left_is_cleared_and_other_names_are_not_touched(three):
    for name in (f".step-000000004.{DEAD}/step-000000004", "step-4", "step-0000000040"):
        (three / name).mkdir(parents=True)
        (three / name / "state.json").write_text("{}")
    replacing = three / f".step-000000001.{DEAD}"
    replacing.mkdir()
    (three / "step-000000001").rename(replacing / "replaced by the new folder")
    assert latest_whole_checkpoint(three).name == "step-000000003"
    assert names(three) == [
        "step-000000001",  # its replacement had not come
        "step-000000002",
        "step-000000003",
        "step-0000000040",
        "step-4",
    ]


def test_the_next_checkpoint_clears_what_killed_writers_left(trainer, tmp_path):
    (tmp_path / f".step-000000004.{DEAD}").mkdir()
    checkpoints(tmp_path).save_now(trainer)
    assert names(tmp_path) == ["step-000000000"]
