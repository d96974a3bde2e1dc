"""With batches on their way ahead, training comes out as without, bit for bit."""

import csv
import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from safetensors.torch import load_file
from torch import distributed as dist

from recsys.compat.torchrec_pipeline import SparsePipeline
from recsys.config.base import validate
from recsys.config.run import RunConfig, dump_config, load_config
from recsys.config.yaml_files import apply_overrides
from recsys.data.batch import Batch
from recsys.distributed.build import build_on_ranks
from recsys.distributed.context import Ranks, join_ranks
from recsys.errors import RecsysError
from recsys.schema import load_schema
from recsys.training.checkpoint.policy import whole_checkpoints
from recsys.training.lightning.pipeline import (
    copied_aside,
    look_ahead,
    training_forward,
)
from recsys.training.lightning.resumable_loader import EpochStream
from recsys.training.lightning.signals import StoppedBySignal
from recsys.training.loaders import build_loader
from recsys.training.train import train
from tests.embeddings.examples import EXAMPLES
from tests.ranks import free_port, run_on_ranks

pytestmark = pytest.mark.slow
FEATURES = {
    "history": {"pooling": "mean"},
    "item": {"placement": {"sharding": "column_wise"}},
    "shop": {"placement": {"sharding": "data_parallel"}},
}


def config_of(dataset, *overrides) -> RunConfig:
    content = {
        "data": {"path": str(dataset), "global_batch_size": 40},
        "embeddings": {
            "default": {"method": "full_table", "embedding_dim": 8},
            "features": FEATURES,
        },
        "model": {"name": "dcn_v2", "hidden_dims": [16], "dropout": 0.1},
        "train": {
            "epochs": 2,
            "early_stopping_patience": None,
            "validate_every_steps": 7,
            "log_every_steps": 1,
            "dense_optimizer": {"name": "adam", "learning_rate": 5e-3},
            "embedding_optimizer": {"name": "rowwise_adagrad", "learning_rate": 0.1, "l2": 1e-4},
        },
    }
    return validate(RunConfig, apply_overrides(content, overrides), "test")


class Run(NamedTuple):
    """A training for the ranks to do; `stop_at` is the batch at which they get a SIGTERM."""

    config: RunConfig
    folder: Path
    port: int
    resume: bool = False
    stop_at: int | None = None


def train_all(runs: Sequence[Run]) -> list[int]:
    """The steps after which each run was stopped, or 0; on a rank."""
    return [_train(run) for run in runs]


def _train(run: Run) -> int:
    os.environ["MASTER_PORT"] = str(run.port)
    calls = []

    def forward(pipeline, batch):
        calls.append(batch)
        if len(calls) == run.stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(pipeline, batch)

    original, SparsePipeline.__call__ = SparsePipeline.__call__, forward
    try:
        train(run.config, run.folder, resume=run.resume)
    except StoppedBySignal as stopped:
        dist.destroy_process_group()
        return stopped.step
    finally:
        SparsePipeline.__call__ = original
    assert bool(calls) == (run.config.train.pipeline == "on")
    return 0


def left_by(run: Path) -> tuple[str, dict[str, torch.Tensor], list[dict[str, str]]]:
    """The last checkpoint's name and tensors, and the figures of training that clocks leave be."""
    folder = whole_checkpoints(run / "checkpoints")[-1]
    tensors = {
        f"{file.relative_to(folder)}/{name}": tensor
        for file in folder.rglob("*.safetensors")
        for name, tensor in load_file(file).items()
    }
    rows = list(csv.DictReader((run / "metrics.csv").read_text().splitlines()))
    for row in rows:
        del row["samples_per_second"]
    return folder.name, tensors, rows


def assert_same(first: Path, second: Path) -> None:
    (name, tensors, rows), (other_name, others, other_rows) = left_by(first), left_by(second)
    assert (name, tensors.keys(), rows) == (other_name, others.keys(), other_rows)
    assert [key for key in tensors if not torch.equal(tensors[key], others[key])] == []


@pytest.mark.distributed
def test_two_ranks_train_to_the_same_bits_with_and_without_the_pipeline(tiny_dataset, tmp_path):
    """Also when they are stopped with batches on their way and resume inside the epoch."""
    off, on = config_of(tiny_dataset), config_of(tiny_dataset, "train.pipeline=on")
    # two batches in an epoch; the second is one row, of the second rank
    short = ["data.global_batch_size=599", "train.validate_every_steps=null", "train.epochs=3"]
    runs = [
        Run(off, tmp_path / "off", free_port()),
        Run(on, tmp_path / "on", free_port()),
        Run(on, tmp_path / "stopped", free_port(), stop_at=8),
        Run(on, tmp_path / "stopped", free_port(), resume=True),
        Run(config_of(tiny_dataset, *short), tmp_path / "short off", free_port()),
        Run(
            config_of(tiny_dataset, *short, "train.pipeline=on"),
            tmp_path / "short on",
            free_port(),
        ),
    ]
    assert run_on_ranks(2, train_all, runs)[0] == [0, 0, 10, 0, 0, 0]
    assert_same(tmp_path / "off", tmp_path / "on")
    assert_same(tmp_path / "on", tmp_path / "stopped")
    assert_same(tmp_path / "short off", tmp_path / "short on")
    assert len(left_by(tmp_path / "on")[2]) == 30 + 4


@pytest.fixture
def alone() -> Iterator[Ranks]:
    """A group of one process: tables are sharded over it."""
    with join_ranks(torch.device("cpu"), needs_group=True) as ranks:
        yield ranks


class Trained(NamedTuple):
    losses: list[float]
    weights: dict[str, torch.Tensor]


def build(config: RunConfig, ranks: Ranks):
    """The model, its training forward and its stream."""
    schema = load_schema(config.data.path)
    built = build_on_ranks(config, schema, ranks)
    forward = training_forward(built, config.train.pipeline, ranks.device)
    loader = build_loader(config, schema, "train", built.model, ranks, shuffle=True)
    return built.model, forward, EpochStream(loader, look_ahead(forward, ranks.device))


def train_epoch(config: RunConfig, ranks: Ranks) -> Trained:
    model, forward, stream = build(config, ranks)
    optimizer = torch.optim.SGD(model.dense_parameters(), lr=0.1)
    losses = []
    torch.manual_seed(0)  # dropout
    for batch in stream:
        logits, penalty = forward(batch)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, batch.labels)
        model.zero_grad()
        (loss + penalty).backward()
        optimizer.step()
        model.embeddings.store.step()
        losses.append(loss.item())
    if isinstance(forward, SparsePipeline):
        # torchrec would go on without a word
        assert len(forward._pipelined_modules) == len(model.embeddings.store.groups)
    tables = {shard.table.name: shard.weight for shard in model.embeddings.store.shards()}
    return Trained(losses, {**model.dense_state_dict(), **tables})


@pytest.mark.parametrize("method", EXAMPLES, ids=lambda m: m.method)
def test_every_method_goes_through_the_pipeline(tiny_dataset, alone, method):
    overrides = [
        f"embeddings.features={{item: {method.model_dump_json()}}}",
        "data.global_batch_size=150",
    ]
    plain = train_epoch(config_of(tiny_dataset, *overrides), alone)
    ahead = train_epoch(config_of(tiny_dataset, *overrides, "train.pipeline=on"), alone)
    assert len(plain.losses) == 4
    assert ahead.losses == plain.losses
    for name, weight in plain.weights.items():
        assert torch.equal(ahead.weights[name], weight), name


def test_the_ids_of_the_next_batch_set_out_before_a_batch_is_trained(
    tiny_dataset, alone, monkeypatch
):
    config = config_of(tiny_dataset, "train.pipeline=on", "data.global_batch_size=150")
    _, forward, stream = build(config, alone)
    events = []
    start, enqueue = SparsePipeline.start_sparse_data_dist, SparsePipeline.enqueue_batch

    def start_and_tell(pipeline, batch, context):
        events.append(f"ids {batch.cursor.batch}")
        start(pipeline, batch, context)

    def enqueue_and_tell(pipeline, batches):
        if found := enqueue(pipeline, batches):
            events.append(f"copy {pipeline.batches[-1].cursor.batch}")
        return found

    monkeypatch.setattr(SparsePipeline, "start_sparse_data_dist", start_and_tell)
    monkeypatch.setattr(SparsePipeline, "enqueue_batch", enqueue_and_tell)
    for batch in stream:
        forward(batch)
        events.append(f"train {batch.cursor.batch}")
    assert ", ".join(events) == (
        "copy 0, ids 0, copy 1, ids 1, copy 2, train 0, ids 2, copy 3, train 1, "
        "ids 3, train 2, train 3"
    )


def test_between_two_batches_the_model_can_be_detached_and_scores_as_always(tiny_dataset, alone):
    overrides = ["data.global_batch_size=150", "model.dropout=0"]
    model, _, stream = build(config_of(tiny_dataset, *overrides), alone)
    batches: list[Batch] = list(stream)
    expected = [model(batch)[0] for batch in batches]
    piped, forward, stream = build(config_of(tiny_dataset, *overrides, "train.pipeline=on"), alone)
    for _ in range(2):
        for batch, logits in zip(stream, expected, strict=True):
            stream.continue_after(batches[-1].cursor._replace(epoch=-1))  # the same epoch again
            assert torch.equal(forward(batch)[0], logits)
            forward.detach()
            for other, wanted in zip(batches, expected, strict=True):
                assert torch.equal(piped(other)[0], wanted)


def test_a_pipeline_without_any_exchange_is_refused(tiny_dataset, tmp_path):
    config = config_of(tiny_dataset, "train.pipeline=on", "embeddings.features={}")
    with pytest.raises(RecsysError, match="sharded over several devices") as refused:
        train(config, tmp_path / "run")
    assert "train.pipeline" in str(refused.value)
    assert not (tmp_path / "run" / "config.yaml").exists()


@pytest.mark.parametrize("choice", ["auto", "on", "off"])
def test_the_choice_may_be_written_without_quotes_in_yaml(tiny_dataset, tmp_path, choice):
    config = config_of(tiny_dataset, f"train.pipeline={choice}")
    assert config.train.pipeline == choice
    (tmp_path / "config.yaml").write_text(dump_config(config))
    assert load_config(tmp_path / "config.yaml") == config
    with pytest.raises(RecsysError, match="'auto', 'on' or 'off'"):
        config_of(tiny_dataset, "train.pipeline=fast")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_a_gpu_trains_alike_with_and_without_the_pipeline(tiny_dataset):
    config = config_of(tiny_dataset, "model.dropout=0")
    with join_ranks(torch.device("cuda"), needs_group=True) as ranks:
        plain = train_epoch(config, ranks)
        ahead = train_epoch(config_of(tiny_dataset, "model.dropout=0", "train.pipeline=on"), ranks)
    assert ahead.losses == pytest.approx(plain.losses, abs=1e-6)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_batches_copied_aside_are_those_of_the_loader(tiny_dataset):
    config = config_of(tiny_dataset)
    ranks = Ranks(torch.device("cuda"))
    model, _, _ = build(config, ranks)
    schema = load_schema(config.data.path)
    loader = build_loader(config, schema, "train", model, ranks, shuffle=True)
    for batch, copy in zip(loader, copied_aside(iter(loader), ranks.device), strict=True):
        assert batch.dense.is_pinned()
        assert copy.dense.device.type == "cuda"
        for there, here in zip(tensors_of(copy), tensors_of(batch), strict=True):
            assert torch.equal(there.cpu(), here)


def tensors_of(batch: Batch) -> list[torch.Tensor]:
    rows = batch.lookups["pooled"].rows
    return [batch.dense, batch.labels, rows.values(), rows.lengths()]
