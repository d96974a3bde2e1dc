"""The commands as a user types them, in process: what they print, write and exit with."""

import json
import os
import shutil
import subprocess
import sys

import polars as pl
import pytest

from recsys.cli.main import main

pytestmark = pytest.mark.slow
CONFIG = """
data: {{path: {path}, global_batch_size: 64}}
embeddings:
  default: {{method: full_table, embedding_dim: 8}}
model: {{name: dcn_v2, hidden_dims: [16]}}
train:
  epochs: 2
  dense_optimizer: {{name: adam, learning_rate: 5.0e-3}}
  embedding_optimizer: {{name: rowwise_adagrad, learning_rate: 0.1}}
"""


@pytest.fixture
def recsys(monkeypatch, capsys):
    """Runs a command line; returns (exit code, stdout, stderr)."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["recsys", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            main()
        captured = capsys.readouterr()
        return exit_.value.code or 0, captured.out, captured.err

    return run


@pytest.fixture
def config(tiny_dataset, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(CONFIG.format(path=tiny_dataset))
    return path


def test_train_evaluate_export_verify_compare(recsys, config, tiny_dataset, tmp_path):
    run, other, export = tmp_path / "run", tmp_path / "other", tmp_path / "export"
    code, out, err = recsys("train", config, "--out", run)
    assert (code, "test" in out, "valid AUC" in err) == (0, True, True)
    report = json.loads((run / "report.json").read_text())
    assert set(report["splits"]) == {"valid", "test"}
    assert report["splits"]["test"]["rows"] == 200
    assert (run / "report.html").stat().st_size > 10_000
    assert recsys("evaluate", run, "--split", "train")[0] == 0
    assert len(pl.read_parquet(run / "predictions" / "train.parquet")) == 600
    assert recsys("export", run, "--out", export)[0] == 0
    code, out, _ = recsys("verify", export, "--data", tiny_dataset / "test")
    assert (code, "verified 200 rows" in out) == (0, True)
    assert recsys("train", config, "train.seed=1", "--out", other)[0] == 0
    code, out, _ = recsys("compare", run, other)
    assert (code, "p = " in out) == (0, True)


def test_resume_continues_with_more_epochs(recsys, config, tmp_path):
    run = tmp_path / "run"
    assert recsys("train", config, "--out", run)[0] == 0
    assert recsys("train", "train.epochs=3", "--resume", run)[0] == 0
    assert json.loads((run / "training.json").read_text())["training"]["steps"] == 30


MISTAKES = {
    "unknown key": (["train", "{config}", "train.epoch=1", "--out", "{out}"], "did you mean"),
    "unknown model": (["train", "{config}", "model.name=dcnv2", "--out", "{out}"], "'dcn_v2'"),
    "unknown feature": (
        [
            "train",
            "{config}",
            "embeddings.features={{histroy: {{pooling: sum}}}}",
            "--out",
            "{out}",
        ],
        "did you mean 'history'",
    ),
    "unknown slice": (["train", "{config}", "report.slices=[colr]", "--out", "{out}"], "'color'"),
    "no config file": (["train", "nothing.yaml", "--out", "{out}"], "not found"),
    "no config": (["train", "--out", "{out}"], "needs a config"),
    "no output": (["train", "{config}"], "--out"),
    "no run to evaluate": (["evaluate", "{out}"], "not a run folder"),
    "no run to export": (["export", "{out}", "--out", "{out}2"], "not a run folder"),
    "no data to verify": (["verify", "{out}", "--data", "{out}"], "is not an export"),
    "unknown data set": (["prepare", "criteo", "--raw", "x", "--out", "{out}"], "criteo_kaggle"),
    "no raw file": (["prepare", "criteo_kaggle", "--raw", "x.tsv", "--out", "{out}"], "x.tsv"),
    "nothing to resume": (["train", "{config}", "--resume", "{out}"], "there is no run to resume"),
    "fused adam on a CPU": (
        [
            "train",
            "{config}",
            "train.device=cpu",
            "train.embedding_optimizer={{name: adam, learning_rate: 0.1}}",
            "--out",
            "{out}",
        ],
        "store: plain",
    ),
}


@pytest.mark.parametrize(("arguments", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_message_and_exit_code_2(recsys, config, tmp_path, arguments, message):
    out = tmp_path / "out"
    code, _, err = recsys(*[word.format(config=config, out=out) for word in arguments])
    assert code == 2
    assert message in err
    assert "Traceback" not in err
    assert not (out / "report.json").exists()


def test_a_damaged_checkpoint_is_refused(recsys, config, tmp_path):
    run = tmp_path / "run"
    assert recsys("train", config, "--out", run)[0] == 0
    (weights,) = (run / "checkpoints").glob("best-*/tensors.safetensors")
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    code, _, err = recsys("evaluate", run)
    assert (code, "checksum differs" in err) == (2, True)


def test_unreadable_rows_stop_training_with_their_place(recsys, config, tiny_dataset, tmp_path):
    dataset = tmp_path / "dataset"
    shutil.copytree(tiny_dataset, dataset)
    path = sorted((dataset / "train").glob("*.parquet"))[0]
    rows = pl.read_parquet(path)
    rows = rows.with_columns(pl.lit(99, pl.Int32).alias("color"))
    rows.write_parquet(path, use_pyarrow=True)
    code, _, err = recsys("train", config, f"data.path={dataset}", "--out", tmp_path / "run")
    assert (code, "color" in err, "99" in err) == (2, True, True)


def test_the_module_is_the_command_and_shows_no_noise():
    command = [sys.executable, "-m", "recsys", "doctor"]
    answer = subprocess.run(command, capture_output=True, text=True, env={**os.environ})
    assert (answer.returncode, answer.stderr) == (0, "")
    assert "torchrec" in answer.stdout


def test_help_names_every_command(recsys):
    code, out, _ = recsys("--help")
    assert code == 0
    for name in ("doctor", "demo", "prepare", "train", "evaluate", "export", "verify", "compare"):
        assert name in out


def test_a_run_does_not_see_what_is_left_out(recsys, config, tiny_dataset, tmp_path):
    run, export = tmp_path / "run", tmp_path / "export"
    left_out = ["train.epochs=1", "data.leave_out=[history, pri*]"]
    assert recsys("train", config, *left_out, "--out", run)[0] == 0
    report = json.loads((run / "report.json").read_text())
    assert set(report["embeddings"]["features"]) == {"color", "shop", "item"}
    assert recsys("train", "--resume", run)[0] == 0
    assert recsys("export", run, "--out", export)[0] == 0
    assert recsys("verify", export, "--data", tiny_dataset / "test")[0] == 0


def test_only_known_features_can_be_left_out(recsys, config, tmp_path):
    code, _, err = recsys("train", config, "data.leave_out=[histry]", "--out", tmp_path / "run")
    assert code == 2
    assert "histry" in err
    assert "history" in err
    assert not (tmp_path / "run").exists()


def test_training_can_be_judged_within_groups(recsys, config, tmp_path):
    run = tmp_path / "run"
    code, _, err = recsys("train", config, "train.monitor=gauc", "--out", run)
    assert (code, "GAUC" in err) == (0, True)
    facts = json.loads((run / "training.json").read_text())
    best = pl.read_csv(run / "metrics.csv")["valid/gauc"].max()
    report = json.loads((run / "report.json").read_text())
    assert facts["best_valid_gauc"] == pytest.approx(best)
    assert report["splits"]["valid"]["gauc"] == pytest.approx(best)


def test_a_run_shorter_than_its_validation_interval_says_so_and_trains(recsys, config, tmp_path):
    late = "train.validate_every_steps=21"  # 2 epochs of 10 steps
    code, _, err = recsys("train", config, late, "--out", tmp_path / "run")
    assert (code, "the whole run has 20 steps" in err) == (0, True)
    assert "validate_every_steps: null" in (tmp_path / "run" / "config.yaml").read_text()
