"""Training as a whole: it learns, it repeats, it resumes to the same bits."""

import json
import shutil

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file

from recsys.config.base import validate
from recsys.config.run import RunConfig, dump_config, load_config
from recsys.config.yaml_files import apply_overrides
from recsys.errors import RecsysError
from recsys.evaluation.score import evaluate_split
from recsys.metrics import compute_auc
from recsys.training.checkpoint.io import SafetensorsCheckpointIO
from recsys.training.checkpoint.policy import whole_checkpoints
from recsys.training.run_folder.trained import load_trained
from recsys.training.train import train
from tests.tiny_dataset import (
    CARDINALITIES,
    tiny_features,
    tiny_table,
    write_dataset,
    write_tiny_dataset,
    write_vocabulary,
)

pytestmark = pytest.mark.slow


def config_of(dataset, *overrides) -> RunConfig:
    content = {
        "data": {"path": str(dataset), "global_batch_size": 64},
        "embeddings": {"default": {"method": "full_table", "embedding_dim": 8}},
        "model": {"name": "dcn_v2", "hidden_dims": [16], "dropout": 0.1},
        "train": {
            "epochs": 3,
            "early_stopping_patience": None,
            "dense_optimizer": {"name": "adam", "learning_rate": 5e-3},
            "embedding_optimizer": {"name": "rowwise_adagrad", "learning_rate": 0.1},
        },
    }
    return validate(RunConfig, apply_overrides(content, overrides), "test")


def weights_of(run_dir):
    """Every tensor of the last checkpoint: weights, optimiser state, random state."""
    folder = whole_checkpoints(run_dir / "checkpoints")[-1]
    return {
        f"{file.name}/{name}": tensor
        for file in folder.rglob("*.safetensors")
        for name, tensor in load_file(file).items()
    }


def assert_same_weights(first, second):
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


MODELS = {
    "logistic_regression": [
        "model={name: logistic_regression}",
        "embeddings.default.embedding_dim=1",
    ],
    "dcn_v2": [],
    "dcn_v2 with raw numericals": ["embeddings.numerical=raw"],
    "autoint": ["model={name: autoint, attention_dim: 8, num_layers: 2}"],
    "autoint+": ["model={name: autoint, attention_dim: 8, num_layers: 1, hidden_dims: [8]}"],
    "hashed": ["embeddings.features={item: {method: hashed, embedding_dim: 8, num_buckets: 20}}"],
}


@pytest.mark.parametrize("overrides", MODELS.values(), ids=MODELS)
def test_every_model_learns_and_leaves_a_whole_run_folder(tiny_dataset, tmp_path, overrides):
    run = tmp_path / "run"
    train(config_of(tiny_dataset, "train.epochs=6", *overrides), run)
    predictions = pl.read_parquet(evaluate_split(load_trained(run), "test"))
    logits, labels = predictions["logit"].to_numpy(), predictions["label"].to_numpy()
    assert len(predictions) == 200
    assert compute_auc(logits, labels) > 0.65
    names = {path.name for path in run.iterdir()}
    assert names >= {
        "config.yaml",
        "environment.json",
        "schema.json",
        "metrics.csv",
        "training.json",
    }
    facts = json.loads((run / "training.json").read_text())
    assert facts["training"]["steps"] == 6 * 10


def test_predictions_stand_in_file_order(tiny_dataset, tmp_path):
    train(config_of(tiny_dataset, "train.epochs=1"), tmp_path / "run")
    predictions = pl.read_parquet(evaluate_split(load_trained(tmp_path / "run"), "test"))
    rows = pl.read_parquet(sorted((tiny_dataset / "test").glob("*.parquet")))
    assert predictions["label"].to_list() == rows["label"].to_list()


def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not(tiny_dataset, tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(config_of(tiny_dataset, "train.epochs=1", f"train.seed={seed}"), tmp_path / name)
    assert_same_weights(weights_of(tmp_path / "a"), weights_of(tmp_path / "b"))
    a, c = weights_of(tmp_path / "a"), weights_of(tmp_path / "c")
    name = next(n for n in a if "color/weight" in n)
    assert not torch.equal(a[name], c[name])


STORES = {
    "fused": [],
    "plain dense adam": [
        "embeddings.store=plain",
        "train.embedding_optimizer={name: adam, learning_rate: 0.01, l2: 1.0e-4}",
    ],
    "plain sparse adam": [
        "embeddings.store=plain",
        "train.embedding_optimizer={name: sparse_adam, learning_rate: 0.01}",
    ],
    "fused with l2": ["train.embedding_optimizer.l2=1.0e-4"],
    "fused sgd": ["train.embedding_optimizer={name: sgd, learning_rate: 0.5}"],
}


@pytest.mark.parametrize("overrides", STORES.values(), ids=STORES)
def test_a_run_resumed_inside_an_epoch_equals_the_uninterrupted_one(
    tiny_dataset, tmp_path, overrides
):
    options = ["train.checkpoint_every_steps=7", "train.keep_checkpoints=99", *overrides]
    config = config_of(tiny_dataset, *options)
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    train(config, whole)
    train(config, resumed)
    for later in whole_checkpoints(resumed / "checkpoints"):
        if int(later.name.removeprefix("step-")) > 14:  # the 4th batch of the 2nd epoch
            SafetensorsCheckpointIO().remove_checkpoint(later)
    train(config, resumed, resume=True)
    assert_same_weights(weights_of(whole), weights_of(resumed))
    assert (
        whole_checkpoints(resumed / "checkpoints")[-1].name
        == whole_checkpoints(whole / "checkpoints")[-1].name
    )


def test_a_run_resumed_after_an_epoch_equals_the_uninterrupted_one(tiny_dataset, tmp_path):
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    train(config_of(tiny_dataset), whole)
    train(config_of(tiny_dataset, "train.epochs=1"), resumed)
    train(config_of(tiny_dataset), resumed, resume=True)
    assert_same_weights(weights_of(whole), weights_of(resumed))


def test_a_plateau_lowers_every_learning_rate_and_patience_ends_training(tiny_dataset, tmp_path):
    # A learning rate of nearly nothing never improves the AUC after the first validation.
    options = [
        "train.epochs=9",
        "train.early_stopping_patience=2",
        "train.dense_optimizer.learning_rate=1.0e-30",
        "train.embedding_optimizer={name: sgd, learning_rate: 1.0e-30}",
        "model.dropout=0",
    ]
    train(config_of(tiny_dataset, *options), tmp_path / "run")
    facts = json.loads((tmp_path / "run" / "training.json").read_text())
    assert facts["training"]["epochs"] == 3
    state = SafetensorsCheckpointIO().load_checkpoint(
        whole_checkpoints(tmp_path / "run" / "checkpoints")[-1]
    )
    assert state["recsys"]["learning_rate_factor"] == pytest.approx(0.01)
    assert state["optimizer_states"][0]["param_groups"][0]["lr"] == pytest.approx(1e-32)


def test_only_so_many_checkpoints_are_kept(tiny_dataset, tmp_path):
    options = ["train.checkpoint_every_steps=4", "train.keep_checkpoints=2"]
    train(config_of(tiny_dataset, *options), tmp_path / "run")
    names = [path.name for path in whole_checkpoints(tmp_path / "run" / "checkpoints")]
    assert names == ["step-000000028", "step-000000030"]


def test_training_may_be_measured_in_steps(tiny_dataset, tmp_path):
    options = ["train.epochs=null", "train.steps=13", "train.validate_every_steps=5"]
    train(config_of(tiny_dataset, *options), tmp_path / "run")
    facts = json.loads((tmp_path / "run" / "training.json").read_text())
    assert facts["training"]["steps"] == 13


def test_shuffled_labels_give_an_auc_near_one_half(tiny_dataset, tmp_path):
    dataset = tmp_path / "shuffled"
    shutil.copytree(tiny_dataset, dataset)
    rng = np.random.default_rng(0)
    for path in sorted((dataset / "train").glob("*.parquet")):
        rows = pl.read_parquet(path)
        labels = pl.Series("label", rng.permutation(rows["label"].to_numpy()))
        rows.with_columns(labels).write_parquet(path, use_pyarrow=True)
    train(config_of(dataset), tmp_path / "run")
    predictions = pl.read_parquet(evaluate_split(load_trained(tmp_path / "run"), "test"))
    auc = compute_auc(predictions["logit"].to_numpy(), predictions["label"].to_numpy())
    assert abs(auc - 0.5) < 0.13  # three standard errors of an AUC on 200 rows


def test_a_run_is_rebuilt_from_its_folder_alone(tiny_dataset, tmp_path):
    config = config_of(tiny_dataset, "train.epochs=1")
    train(config, tmp_path / "run")
    assert load_config(tmp_path / "run" / "config.yaml") == config
    assert dump_config(config) == (tmp_path / "run" / "config.yaml").read_text()


def test_a_loss_that_is_not_finite_stops_with_the_culprit(tiny_dataset, tmp_path):
    options = ["train.embedding_optimizer={name: sgd, learning_rate: 1.0e+38}"]
    with pytest.raises(RecsysError, match=r"not finite(.|\n)*first non-finite values in "):
        train(config_of(tiny_dataset, *options), tmp_path / "run")


def test_a_new_run_does_not_overwrite_an_old_one(tiny_dataset, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    with pytest.raises(RecsysError, match="not empty"):
        train(config_of(tiny_dataset), tmp_path / "run")


def test_resuming_what_was_never_started_is_refused(tiny_dataset, tmp_path):
    with pytest.raises(RecsysError, match="no run to resume"):
        train(config_of(tiny_dataset), tmp_path / "run", resume=True)


def test_resuming_with_another_model_is_refused(tiny_dataset, tmp_path):
    train(config_of(tiny_dataset, "train.epochs=1"), tmp_path / "run")
    with pytest.raises(RecsysError, match="another `model` section"):
        train(config_of(tiny_dataset, "model.hidden_dims=[8]"), tmp_path / "run", resume=True)


def test_resuming_on_other_rows_is_refused(tiny_dataset, tmp_path):
    train(config_of(tiny_dataset, "train.epochs=1"), tmp_path / "run")
    other = tmp_path / "other"
    write_tiny_dataset(other)
    schema = (other / "schema.json").read_text()
    (other / "schema.json").write_text(schema.replace('"sha256":"', '"sha256":"0', 1))
    with pytest.raises(RecsysError, match="has changed"):
        train(config_of(other), tmp_path / "run", resume=True)


def test_a_resumed_run_keeps_what_was_changed(tiny_dataset, tmp_path):
    train(config_of(tiny_dataset, "train.epochs=1"), tmp_path / "run")
    train(config_of(tiny_dataset, "train.epochs=2"), tmp_path / "run", resume=True)
    assert load_config(tmp_path / "run" / "config.yaml").train.epochs == 2


def test_a_valid_split_of_one_class_is_refused(tiny_dataset, tmp_path):
    dataset = tmp_path / "dataset"
    shutil.copytree(tiny_dataset, dataset)
    for path in (dataset / "valid").glob("*.parquet"):
        rows = pl.read_parquet(path).with_columns(pl.lit(1, pl.Int8).alias("label"))
        rows.write_parquet(path, use_pyarrow=True)
    with pytest.raises(RecsysError, match="AUC is not defined"):
        train(config_of(dataset), tmp_path / "run")


def test_a_last_batch_of_one_row_trains_with_batch_norm(tiny_dataset, tmp_path):
    options = ["model.batch_norm=true", "data.global_batch_size=599", "train.epochs=1"]
    train(config_of(tiny_dataset, *options), tmp_path / "run")
    assert load_trained(tmp_path / "run").model.network is not None


@pytest.mark.parametrize("model", ["din", "mean_pooling", "twin"])
def test_a_dataset_whose_histories_are_all_empty_trains(tmp_path, model):
    rng = np.random.default_rng(0)
    splits = {name: [without_behaviors(tiny_table(rng, 120))] for name in ("train", "valid")}
    for name, cardinality in CARDINALITIES.items():
        write_vocabulary(tmp_path / "data", name, cardinality, splits["train"][0][name].to_numpy())
    write_dataset(tmp_path / "data", tiny_features(), splits, row_group_rows=64)
    pairs = "[{target: [item], history: [history]}]"
    options = [f"model={{name: {model}, pairs: {pairs}, hidden_dims: [8]}}", "train.epochs=1"]
    train(config_of(tmp_path / "data", *options), tmp_path / "run")
    evaluate_split(load_trained(tmp_path / "run"), "valid")


def without_behaviors(table):
    place = table.column_names.index("history")
    empty = pa.array([[]] * len(table), pa.list_(pa.int32()))
    return table.set_column(place, "history", empty)
