"""A complete checkpoint with values of other types is one message, not a traceback."""

import json

import pytest

from recsys.errors import RecsysError
from recsys.io.checksums import write_checksums
from recsys.training.checkpoint.policy import whole_checkpoints
from recsys.training.lightning.restoring import TrainingStart, restoring
from recsys.training.train import train
from tests.training.test_train import config_of


def test_a_checkpoint_whose_values_have_other_types_cannot_be_restored(tiny_dataset, tmp_path):
    config = config_of(tiny_dataset, "train.epochs=1")
    train(config, tmp_path / "run")
    checkpoint = whole_checkpoints(tmp_path / "run" / "checkpoints")[-1]
    state = json.loads((checkpoint / "state.json").read_text())
    for item in state["$items"]:
        if item[0] == "global_step":
            item[1] = ["x"]
    (checkpoint / "state.json").write_text(json.dumps(state))
    write_checksums(checkpoint)
    with pytest.raises(RecsysError, match=r"cannot be restored(.|\n)*step-"):
        train(config_of(tiny_dataset, "train.epochs=2"), tmp_path / "run", resume=True)


def test_errors_of_training_itself_are_not_blamed_on_the_checkpoint(tmp_path):
    start = TrainingStart()
    start.has_begun = True
    with pytest.raises(ValueError, match="ours"), restoring(tmp_path, start):
        raise ValueError("ours")
    with pytest.raises(ValueError, match="ours"), restoring(None, TrainingStart()):
        raise ValueError("ours")
