"""Runs on one GPU: they learn, resume to the same bits, change devices, are scored and exported."""

import json
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import polars as pl
import pytest
import torch
import torch.distributed as dist

from recsys.cli.verification import verify
from recsys.compat.fbgemm import has_cuda_kernels
from recsys.config.run import RunConfig, dump_config
from recsys.distributed.context import join_ranks
from recsys.distributed.device import check_bf16
from recsys.errors import RecsysError
from recsys.evaluation.score import evaluate_split
from recsys.export.write import export_run
from recsys.metrics import compute_auc
from recsys.training.checkpoint.io import SafetensorsCheckpointIO
from recsys.training.checkpoint.policy import whole_checkpoints
from recsys.training.run_folder.trained import load_trained
from recsys.training.train import train
from tests.gpu.machine import DEVICE, HAS_FUSED, IS_CUDA, needs_fused, needs_fused_cuda, stores
from tests.training.test_train import MODELS, config_of, weights_of

ADAM = "train.embedding_optimizer={name: adam, learning_rate: 0.01}"
SPARSE_ADAM = "train.embedding_optimizer={name: sparse_adam, learning_rate: 0.01}"
STORE = "fused" if HAS_FUSED else "plain"


@pytest.fixture(autouse=True)
def _no_group_is_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A test that fails inside a process group costs no other test."""
    for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        monkeypatch.setenv(name, "lo")  # one process: there may be no other network
    yield
    if dist.is_initialized():
        dist.destroy_process_group()


def config_on(dataset, *overrides, store=STORE, device=DEVICE) -> RunConfig:
    """The run that tests/training trains on the CPU, on this device."""
    fixed = [f"train.device={device.type}", f"embeddings.store={store}"]
    return config_of(dataset, *fixed, *overrides)


def auc_of(run) -> float:
    rows = pl.read_parquet(evaluate_split(load_trained(run), "test"))
    auc = compute_auc(rows["logit"].to_numpy(), rows["label"].to_numpy())
    assert auc is not None
    return auc


def assert_close_and_then_equal(first, second):
    """Says whether bits differ in the last places or altogether."""
    assert first.keys() == second.keys()
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, rtol=1e-4, atol=1e-6, msg=name)
    differ = [name for name, value in first.items() if not torch.equal(value, second[name])]
    assert differ == [], "equal to 1e-6, but not bit for bit"


@stores
@pytest.mark.parametrize("overrides", MODELS.values(), ids=MODELS)
def test_every_model_learns(tiny_dataset, tmp_path, store, overrides):
    run = tmp_path / "run"
    train(config_on(tiny_dataset, "train.epochs=6", *overrides, store=store), run)
    assert auc_of(run) > 0.65
    facts = json.loads((run / "training.json").read_text())["training"]
    assert facts["device"] == (torch.cuda.get_device_name(DEVICE) if IS_CUDA else "cpu")


def test_the_same_run_on_gpu_and_cpu_ends_with_nearly_the_same_scores(tiny_dataset, tmp_path):
    # dropout draws other numbers on a GPU; without it only the order of sums differs
    scores = []
    for name, device in (("gpu", DEVICE), ("cpu", torch.device("cpu"))):
        config = config_on(tiny_dataset, "model.dropout=0", "train.epochs=2", device=device)
        train(config, tmp_path / name)
        predictions = pl.read_parquet(evaluate_split(load_trained(tmp_path / name), "test"))
        scores.append(predictions["logit"].to_numpy())
    np.testing.assert_allclose(scores[0], scores[1], atol=2e-2)


@pytest.mark.parametrize(
    ("store", "overrides"),
    [
        pytest.param("fused", [], marks=needs_fused),
        pytest.param("fused", ["train.embedding_optimizer.l2=1.0e-4"], marks=needs_fused),
        pytest.param("fused", [ADAM], marks=needs_fused_cuda),
        ("plain", [ADAM]),
        ("plain", [SPARSE_ADAM]),
    ],
    ids=["adagrad", "adagrad with l2", "fused adam", "dense adam", "sparse adam"],
)
def test_a_resumed_run_equals_the_uninterrupted_one(tiny_dataset, tmp_path, store, overrides):
    options = ["train.checkpoint_every_steps=7", "train.keep_checkpoints=99", *overrides]
    config = config_on(tiny_dataset, *options, store=store)
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    train(config, whole)
    train(config, resumed)
    for later in whole_checkpoints(resumed / "checkpoints"):
        if int(later.name.removeprefix("step-")) > 14:  # inside the 2nd epoch, after a validation
            SafetensorsCheckpointIO().remove_checkpoint(later)
    train(config, resumed, resume=True)
    assert_close_and_then_equal(weights_of(whole), weights_of(resumed))


@stores
def test_a_checkpoint_goes_from_the_gpu_to_the_cpu_and_back(tiny_dataset, tmp_path, store):
    run = tmp_path / "run"
    for epochs, device in ((1, DEVICE), (2, torch.device("cpu")), (3, DEVICE)):
        options = (f"train.epochs={epochs}", "train.keep_checkpoints=9")
        config = config_on(tiny_dataset, *options, store=store, device=device)
        train(config, run, resume=epochs > 1)
    facts = json.loads((run / "training.json").read_text())["training"]
    assert facts["steps"] == 3 * 10
    assert auc_of(run) > 0.6


@stores
def test_weights_of_the_gpu_score_the_same_on_the_cpu(tiny_dataset, tmp_path, store):
    run = tmp_path / "run"
    train(config_on(tiny_dataset, store=store), run)
    on_gpu = pl.read_parquet(evaluate_split(load_trained(run), "test"))["logit"].to_numpy()
    text = dump_config(config_on(tiny_dataset, store=store, device=torch.device("cpu")))
    (run / "config.yaml").write_text(text)
    on_cpu = pl.read_parquet(evaluate_split(load_trained(run), "test"))["logit"].to_numpy()
    np.testing.assert_allclose(on_gpu, on_cpu, rtol=1e-3, atol=1e-4)


@stores
def test_bf16_learns_too(tiny_dataset, tmp_path, store):
    try:
        check_bf16(DEVICE)
    except RecsysError as error:
        pytest.skip(str(error))
    options = ["train.precision=bf16", "train.epochs=6", "train.embedding_optimizer.l2=1.0e-4"]
    train(config_on(tiny_dataset, *options, store=store), tmp_path / "run")
    assert auc_of(tmp_path / "run") > 0.65


@stores
def test_a_run_of_the_gpu_is_exported_and_verified(tiny_dataset, tmp_path, store):
    train(config_on(tiny_dataset, "train.epochs=1", store=store), tmp_path / "run")
    export_run(load_trained(tmp_path / "run"), tmp_path / "export")
    for parity in verify(tmp_path / "export", tiny_dataset / "test"):
        assert parity.reference == "run"
        assert parity.rows == 200


PLACEMENTS = {
    "in the device's memory": [],
    "cached from the host's memory": [
        "embeddings.features={'*': {placement: {kernel: uvm_caching, cache_load_factor: 0.5}}}"
    ],
    "in the host's memory": ["embeddings.features={'*': {placement: {kernel: uvm}}}"],
}


@needs_fused
@pytest.mark.parametrize("pipeline", ["off", "on"])
@pytest.mark.parametrize("placement", PLACEMENTS.values(), ids=PLACEMENTS)
def test_a_sharded_store_of_one_gpu_equals_the_fused_one(
    tiny_dataset, tmp_path, placement, pipeline
):
    if placement and not IS_CUDA:
        pytest.skip("only on CUDA")
    options = ["model.dropout=0", "train.epochs=2"]
    train(config_on(tiny_dataset, *options), tmp_path / "whole")
    sharded = config_on(tiny_dataset, *options, *placement, f"train.pipeline={pipeline}")
    with join_ranks(DEVICE, needs_group=True) as ranks:
        train(sharded, tmp_path / "sharded", ranks=ranks)
    whole, sharded = weights_of(tmp_path / "whole"), weights_of(tmp_path / "sharded")
    tables = [name for name in whole if "/weight" in name]
    assert tables
    for name in tables:
        torch.testing.assert_close(sharded[name], whole[name], rtol=1e-4, atol=1e-5)


@needs_fused_cuda
def test_a_cached_run_resumes_as_if_it_had_not_stopped(tiny_dataset, tmp_path):
    placement = PLACEMENTS["cached from the host's memory"]
    config = config_on(tiny_dataset, "train.epochs=2", *placement)  # train makes its own group
    train(config, tmp_path / "whole")
    train(config_on(tiny_dataset, "train.epochs=1", *placement), tmp_path / "resumed")
    train(config, tmp_path / "resumed", resume=True)
    assert_close_and_then_equal(weights_of(tmp_path / "whole"), weights_of(tmp_path / "resumed"))


def test_fused_tables_without_kernels_are_refused_with_the_way_out(tiny_dataset, tmp_path):
    if not IS_CUDA or has_cuda_kernels():
        pytest.skip("the fused store works here")
    with pytest.raises(RecsysError, match=r"without its CUDA kernels(.|\n)*store=plain"):
        train(config_on(tiny_dataset, store="fused"), tmp_path / "run")
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_the_command_trains_evaluates_and_exports(tiny_dataset, tmp_path):
    content = config_on(tiny_dataset, "train.epochs=1")
    (tmp_path / "run.yaml").write_text(dump_config(content))
    for arguments in (
        ["train", tmp_path / "run.yaml", "--out", tmp_path / "run"],
        ["evaluate", tmp_path / "run"],
        ["export", tmp_path / "run", "--out", tmp_path / "export"],
    ):
        command = [sys.executable, "-m", "recsys", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "report.json").is_file()
