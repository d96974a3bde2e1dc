"""With torch and without torchrec and fbgemm (a Mac, an Arm server) the plain store does it all."""

import subprocess
import sys

import polars as pl
import pytest

from recsys.evaluation.score import evaluate_split
from recsys.training.run_folder.trained import load_trained
from recsys.training.train import train
from tests.training.test_train import assert_same_weights, config_of, weights_of

pytestmark = pytest.mark.slow
# None in sys.modules makes an import fail as if the package were not installed
ALONE = """
import sys
sys.modules.update(dict.fromkeys(("torchrec", "fbgemm_gpu")))
from pathlib import Path
from recsys.errors import RecsysError
from recsys.evaluation.score import evaluate_split
from recsys.verification.verify import verify_export
from recsys.export.write import export_run
from recsys.training.run_folder.trained import load_trained
from recsys.training.train import train
from tests.training.test_train import config_of

dataset, folder = Path(sys.argv[1]), Path(sys.argv[2])
"""
WORK = """
train(config_of(dataset, "embeddings.store=plain", "train.epochs=1"), folder / "run")
train(config_of(dataset, "embeddings.store=plain", "train.epochs=2"), folder / "run", resume=True)
trained = load_trained(folder / "run")
evaluate_split(trained, "test")
export_run(trained, folder / "export")
verify_export(folder / "export", dataset / "test")
try:
    train(config_of(dataset), folder / "fused")
except RecsysError as error:
    print(error)
"""


def run_alone(code: str, *arguments: object) -> str:
    command = [sys.executable, "-c", ALONE + code, *map(str, arguments)]
    finished = subprocess.run(command, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


@pytest.fixture(scope="module")
def alone(tiny_dataset, tmp_path_factory):
    """The folder of a run that was trained, resumed, evaluated, exported and verified alone."""
    folder = tmp_path_factory.mktemp("alone")
    (folder / "output").write_text(run_alone(WORK, tiny_dataset, folder))
    return folder


def test_a_run_is_trained_resumed_evaluated_exported_and_verified(alone):
    assert len(pl.read_parquet(alone / "run" / "predictions" / "test.parquet")) == 200
    assert (alone / "export" / "manifest.json").is_file()


def test_the_weights_are_those_of_the_full_installation(alone, tiny_dataset, tmp_path):
    train(config_of(tiny_dataset, "embeddings.store=plain", "train.epochs=2"), tmp_path / "run")
    assert_same_weights(weights_of(tmp_path / "run"), weights_of(alone / "run"))


def test_its_checkpoint_resumes_under_the_full_installation(alone, tiny_dataset, tmp_path):
    config = config_of(tiny_dataset, "embeddings.store=plain")
    train(config, tmp_path / "whole")
    train(config, alone / "run", resume=True)
    assert_same_weights(weights_of(tmp_path / "whole"), weights_of(alone / "run"))


def test_the_fused_store_is_refused_with_what_to_install(alone):
    message = (alone / "output").read_text()
    for words in (
        "fused tables need torchrec and fbgemm",
        "embeddings.store=plain",
        "recsys doctor",
    ):
        assert words in message
    assert not (alone / "fused").exists()


@pytest.mark.parametrize("optimizer", ["rowwise_adagrad", "sgd"])
def test_a_fused_run_is_scored_and_exported(tiny_dataset, tmp_path, optimizer):
    """Rows of 6 floats are padded in a fused run's checkpoint."""
    changes = ("embeddings.default.embedding_dim=6", "train.epochs=1")
    name = f"train.embedding_optimizer={{name: {optimizer}, learning_rate: 0.1}}"
    train(config_of(tiny_dataset, *changes, name), tmp_path / "run")
    evaluate_split(load_trained(tmp_path / "run"), "test")
    predictions = tmp_path / "run" / "predictions"
    (predictions / "test.parquet").rename(predictions / "fused.parquet")
    run_alone(
        """
trained = load_trained(folder / "run")
evaluate_split(trained, "test")
export_run(trained, folder / "export")
verify_export(folder / "export", dataset / "test")
""",
        tiny_dataset,
        tmp_path,
    )
    alone, fused = (pl.read_parquet(predictions / f"{n}.parquet") for n in ("test", "fused"))
    assert alone["logit"].to_numpy() == pytest.approx(fused["logit"].to_numpy(), abs=1e-5)
