"""`recsys train` with several devices: the ranks start, speak with one voice and end together."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from recsys.config.run import dump_config
from recsys.distributed.launch import needs_launch
from tests.training.test_sharded import ADAGRAD, config_of

pytestmark = [pytest.mark.slow, pytest.mark.distributed]
METHOD = {"method": "full_table", "embedding_dim": 8}


def write_config(dataset, folder, *overrides):
    path = folder / "config.yaml"
    path.write_text(dump_config(config_of(dataset, "dcn_v2", METHOD, {}, ADAGRAD, *overrides)))
    return path


def start(*arguments) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "recsys", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def ranks_of(launcher: subprocess.Popen) -> list[int]:
    children = f"/proc/{launcher.pid}/task/{launcher.pid}/children"
    with open(children) as file:  # noqa: PTH123  a file of the kernel
        return [int(pid) for pid in file.read().split()]


def wait_for(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.05)


def test_two_devices_train_evaluate_and_report_once(tiny_dataset, tmp_path):
    config = write_config(tiny_dataset, tmp_path, "train.epochs=1")
    command = start("train", config, "train.devices=2", "--out", tmp_path / "run")
    out, err = command.communicate(timeout=120)
    assert command.returncode == 0, err
    assert out.count("report:") == 1
    assert err.count("epoch 1") == 1
    assert "Warning" not in err
    facts = json.loads((tmp_path / "run" / "training.json").read_text())["training"]
    assert facts["world_size"] == 2
    plan = json.loads((tmp_path / "run" / "plan.json").read_text())
    assert len(plan["ranks"]) == 2


def test_a_rank_that_is_killed_ends_the_others_with_its_fate(tiny_dataset, tmp_path):
    config = write_config(tiny_dataset, tmp_path, "train.epochs=500")
    command = start("train", config, "train.devices=2", "--out", tmp_path / "run")
    wait_for(lambda: (tmp_path / "run" / "checkpoints").is_dir())
    os.kill(ranks_of(command)[1], signal.SIGKILL)
    since = time.monotonic()
    _, err = command.communicate(timeout=60)
    assert time.monotonic() - since < 30
    assert command.returncode == 1
    assert "rank 1 of 2 was killed by SIGKILL" in err
    assert "Traceback" not in err


def test_a_mistake_that_one_rank_meets_is_the_one_message(tiny_dataset, tmp_path):
    config = write_config(tiny_dataset, tmp_path, "data.num_shards=1")
    command = start("train", config, "train.devices=2", "--out", tmp_path / "run")
    _, err = command.communicate(timeout=60)
    assert command.returncode == 2
    assert err.count("error: 1 shards cannot be divided among 2 ranks") == 1
    assert "Traceback" not in err


def test_a_stop_signal_reaches_all_ranks_and_the_run_goes_on_later(tiny_dataset, tmp_path):
    config = write_config(tiny_dataset, tmp_path, "train.epochs=500")
    command = start("train", config, "train.devices=2", "--out", tmp_path / "run")
    wait_for(lambda: (tmp_path / "run" / "checkpoints").is_dir())
    command.send_signal(signal.SIGTERM)
    _, err = command.communicate(timeout=60)
    assert command.returncode == 0
    assert err.count("stopped by SIGTERM after step") == 1
    assert "Traceback" not in err
    again = start("train", "--resume", tmp_path / "run", "train.epochs=1", "train.devices=2")
    out, err = again.communicate(timeout=60)
    assert again.returncode == 0, err
    assert "report:" in out


def test_many_nodes_need_torchrun_and_its_line_is_given(tiny_dataset, tmp_path, monkeypatch):
    config = write_config(tiny_dataset, tmp_path, "train.nodes=2", "train.devices=4")
    command = start("train", config, "--out", tmp_path / "run")
    _, err = command.communicate(timeout=60)
    assert command.returncode == 2
    assert "torchrun --nnodes=2 --nproc-per-node=4" in err
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "8")
    assert not needs_launch(devices=4, nodes=2)
