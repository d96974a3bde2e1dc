"""Two processes in one run folder: the second is refused, and a dead one holds nothing."""

import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager

import pytest

from recsys.errors import RecsysError
from recsys.training.run_folder import lock as run_lock_module
from recsys.training.run_folder.lock import LOCK_FILE, run_lock

# By file: importing the package would import torch.
HOLD = """
import importlib.util, pathlib, sys
spec = importlib.util.spec_from_file_location("run_lock", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
with module.run_lock(pathlib.Path(sys.argv[2])):
    print("held", flush=True)
    sys.stdin.readline()
"""


@contextmanager
def holder(folder):
    """Another process that holds the folder."""
    command = [sys.executable, "-c", HOLD, run_lock_module.__file__, str(folder)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes, text=True) as process:
        try:
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def test_the_second_process_is_told_who_holds_the_folder(tmp_path):
    run_dir = tmp_path / "run"
    with holder(run_dir) as process:
        with pytest.raises(RecsysError) as error, run_lock(run_dir):
            pass
        for word in (str(run_dir), f"process {process.pid} on {os.uname().nodename}", "--out"):
            assert word in str(error.value)
        process.communicate("\n")
        with run_lock(run_dir):
            pass


def test_a_killed_process_holds_nothing(tmp_path):
    with holder(tmp_path) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert (tmp_path / LOCK_FILE).exists()
        with run_lock(tmp_path):
            assert str(os.getpid()) in (tmp_path / LOCK_FILE).read_text()


def test_one_process_cannot_hold_a_folder_twice(tmp_path):
    with (
        run_lock(tmp_path),
        pytest.raises(RecsysError, match="another process"),
        run_lock(tmp_path),
    ):
        pass


def test_the_ranks_of_a_run_share_the_lock_of_the_first(tmp_path):
    with run_lock(tmp_path, rank=0), run_lock(tmp_path, rank=1), run_lock(tmp_path, rank=2):
        pass


def test_nothing_is_left_of_a_lock_on_a_folder_that_got_nothing(tmp_path):
    with run_lock(tmp_path / "new"):
        assert (tmp_path / "new" / LOCK_FILE).exists()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_was_there_stays(tmp_path):
    (tmp_path / "old").mkdir()
    with run_lock(tmp_path / "old"):
        (tmp_path / "old" / "config.yaml").touch()
    assert [path.name for path in (tmp_path / "old").iterdir()] == ["config.yaml"]


def test_many_that_come_and_go_are_never_inside_together(tmp_path):
    inside, entered, overlaps = [], [], []

    def come_and_go():
        for _ in range(200):
            try:
                with run_lock(tmp_path / "run"):
                    inside.append(1)
                    overlaps.extend([1] * (len(inside) > 1))
                    entered.append(1)
                    inside.pop()
            except RecsysError:
                pass

    threads = [threading.Thread(target=come_and_go) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert overlaps == []
    assert entered


@pytest.mark.parametrize("name", ["a file", "a file/run"])
def test_a_folder_that_cannot_be_made_is_named(tmp_path, name):
    (tmp_path / "a file").touch()
    with pytest.raises(RecsysError, match="cannot be written"), run_lock(tmp_path / name):
        pass
