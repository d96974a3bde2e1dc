"""A config for the tiny data set, a copy of the data set that a test may damage, a trained run."""

import shutil
from pathlib import Path

import pytest
import torch
import yaml

from tests.faults.commands import run
from tests.faults.forked import Forked


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """The models are tiny: on a busy machine, threads that wait for each other are what costs."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


CONFIG = {
    "data": {"global_batch_size": 64},
    "embeddings": {"default": {"method": "full_table", "embedding_dim": 8}},
    "model": {"name": "dcn_v2", "hidden_dims": [16]},
    "train": {
        "epochs": 2,
        "checkpoint_every_steps": 5,
        "dense_optimizer": {"name": "adam", "learning_rate": 5e-3},
        "embedding_optimizer": {"name": "rowwise_adagrad", "learning_rate": 0.1},
    },
}


def write_config(path: Path, dataset: Path) -> Path:
    content = {**CONFIG, "data": {**CONFIG["data"], "path": str(dataset)}}
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture
def config(tiny_dataset, tmp_path):
    """A config file on the whole data set, which no test may change."""
    return write_config(tmp_path / "config.yaml", tiny_dataset)


@pytest.fixture
def dataset(tiny_dataset, tmp_path):
    """A copy of the data set."""
    return shutil.copytree(tiny_dataset, tmp_path / "dataset")


@pytest.fixture
def damaged(dataset, tmp_path):
    """A config file on the copy."""
    return write_config(tmp_path / "damaged.yaml", dataset)


@pytest.fixture(scope="session")
def forked():
    server = Forked()
    yield server
    server.close()


@pytest.fixture(scope="session")
def finished_run(tiny_dataset, tmp_path_factory):
    """A trained and evaluated run with several checkpoints; do not change it."""
    folder = tmp_path_factory.mktemp("finished")
    config = write_config(folder / "config.yaml", tiny_dataset)
    assert run("train", config, "--out", folder / "run").code == 0
    return folder / "run"


@pytest.fixture
def trained(finished_run, tmp_path):
    """A copy of the run."""
    return shutil.copytree(finished_run, tmp_path / "run")
