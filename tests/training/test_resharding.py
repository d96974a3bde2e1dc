"""A checkpoint of one number of ranks is loaded on another: same weights, same course."""

import csv
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from recsys.config.run import RunConfig
from recsys.distributed.build import build_on_ranks
from recsys.distributed.context import join_ranks
from recsys.schema import load_schema
from recsys.training.checkpoint.io import SafetensorsCheckpointIO, load_weights
from recsys.training.checkpoint.policy import whole_checkpoints
from recsys.training.loaders import build_loader
from recsys.training.train import train
from tests.ranks import run_on_ranks
from tests.tiny_dataset import write_tiny_dataset
from tests.training.steps import train_steps
from tests.training.test_sharded import ADAGRAD, config_of

pytestmark = [pytest.mark.slow, pytest.mark.distributed]
STEPS_BEFORE, STEPS_AFTER = 20, 50
METHOD = {"method": "full_table", "embedding_dim": 8}
PLACEMENT = {"*": {"sharding": "table_wise"}, "shop": {"sharding": "data_parallel"}}


def steps_of(dataset, steps) -> RunConfig:
    return config_of(
        dataset,
        "dcn_v2",
        METHOD,
        PLACEMENT,
        ADAGRAD,
        "train.epochs=null",
        f"train.steps={steps}",
        "train.log_every_steps=1",
        "train.early_stopping_patience=null",
        "train.plateau_factor=1",
    )


def resave(config: RunConfig, source: Path, target: Path) -> None:
    """Loads a checkpoint on the ranks of the environment and writes it again."""
    with join_ranks(torch.device("cpu")) as ranks:
        model = build_on_ranks(config, load_schema(config.data.path), ranks).model
        io = SafetensorsCheckpointIO(ranks.checkpoint, ranks.rank)
        state = io.load_checkpoint(source)
        io.load_tables(source, model.embeddings.store.state())
        io.save_checkpoint({**state, "tables": model.embeddings.store.state()}, target)
        io.wait()


def contents(config: RunConfig, folder: Path) -> dict[str, torch.Tensor]:
    """Every tensor of a checkpoint, whole."""
    with join_ranks(torch.device("cpu")) as alone:
        model = build_on_ranks(config, load_schema(config.data.path), alone).model
        live = model.embeddings.store.state()
        SafetensorsCheckpointIO().load_tables(folder, live)
        return {**load_file(folder / "tensors.safetensors"), **live}


def losses(run_dir: Path) -> list[float]:
    with (run_dir / "metrics.csv").open() as file:
        return [float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]


def test_a_checkpoint_moves_between_four_two_and_one_ranks(tiny_dataset, tmp_path):
    before = steps_of(tiny_dataset, STEPS_BEFORE)
    run_on_ranks(4, train, before, tmp_path / "4")
    written = whole_checkpoints(tmp_path / "4" / "checkpoints")[-1]

    run_on_ranks(2, resave, before, written, tmp_path / "on 2")
    run_on_ranks(1, resave, before, tmp_path / "on 2", tmp_path / "on 1")
    run_on_ranks(4, resave, before, tmp_path / "on 1", tmp_path / "on 4")
    first, last = contents(before, written), contents(before, tmp_path / "on 4")
    assert first.keys() == last.keys()
    assert [name for name in first if not torch.equal(first[name], last[name])] == []

    courses = {}
    for ranks in (4, 2, 1):
        run_dir = tmp_path / f"from 4 on {ranks}"
        shutil.copytree(tmp_path / "4", run_dir)
        after = steps_of(tiny_dataset, STEPS_BEFORE + STEPS_AFTER)
        run_on_ranks(ranks, resume, after, run_dir)
        courses[ranks] = losses(run_dir)
        assert len(courses[ranks]) == STEPS_BEFORE + STEPS_AFTER
    assert courses[2] == pytest.approx(courses[4], abs=1e-6)
    assert courses[1] == pytest.approx(courses[4], abs=1e-6)


def resume(config: RunConfig, run_dir: Path) -> None:
    train(config, run_dir, resume=True)


def test_what_four_ranks_trained_is_scored_by_one(tiny_dataset, tmp_path):
    config = steps_of(tiny_dataset, STEPS_BEFORE)
    run_on_ranks(4, train, config, tmp_path / "4")
    train(config, tmp_path / "1")
    scored = {}
    for name in ("1", "4"):
        with join_ranks(torch.device("cpu")) as alone:
            model = build_on_ranks(config, load_schema(config.data.path), alone).model
        best = next((tmp_path / name / "checkpoints").glob("best-*"))
        model.load_dense_state_dict(load_weights(best, model.embeddings.store.state()))
        scored[name] = model.embeddings.materialize("item")
    torch.testing.assert_close(scored["4"], scored["1"], rtol=0, atol=1e-5)


def rows_by_batch(config: RunConfig) -> list[list[float]]:
    """The prices, unlike for every row, of this rank's share of each batch of an epoch."""
    with join_ranks(torch.device("cpu")) as ranks:
        schema = load_schema(config.data.path)
        model = build_on_ranks(config, schema, ranks).model
        loader = build_loader(config, schema, "train", model, ranks, shuffle=True)
        return [batch.dense[:, 0].tolist() for batch in loader]


def test_ranks_with_rows_in_0_98_and_99_batches_finish(tmp_path):
    write_tiny_dataset(tmp_path / "data", {"train": 197, "valid": 50, "test": 50})
    config = config_of(
        tmp_path / "data",
        "dcn_v2",
        METHOD,
        PLACEMENT,
        ADAGRAD,
        "data.global_batch_size=2",
        "data.num_shards=3",
        "train.epochs=1",
    )
    shares = run_on_ranks(3, rows_by_batch, config)
    assert [len(batches) for batches in shares] == [99, 99, 99]
    assert [sum(len(rows) > 0 for rows in batches) for batches in shares] == [0, 98, 99]
    (alone,) = run_on_ranks(1, rows_by_batch, config)
    seen = sorted(price for batches in shares for rows in batches for price in rows)
    assert seen == sorted(price for rows in alone for price in rows)
    assert len(seen) == 197

    run_on_ranks(3, train, config, tmp_path / "run")
    assert json.loads((tmp_path / "run" / "training.json").read_text())["training"]["steps"] == 99
    together = run_on_ranks(3, train_steps, {"x": config}, STEPS_AFTER)
    alone = train_steps({"x": config}, STEPS_AFTER)["x"]
    assert all(rank["x"].losses == pytest.approx(alone.losses, abs=1e-5) for rank in together)
