"""Checkpoints: exact, whole or not there, written in the background, and unable to run code."""

import pickle
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from torch import distributed as dist
from torch import multiprocessing

from recsys.errors import RecsysError
from recsys.training.checkpoint import io as checkpoint_io
from recsys.training.checkpoint import table_storage
from recsys.training.checkpoint.io import SafetensorsCheckpointIO, load_weights, save_weights
from recsys.training.checkpoint.policy import latest_whole_checkpoint, whole_checkpoints

TABLES = {
    "C1/weight": torch.arange(12.0).reshape(3, 4),
    "C1/momentum1": torch.tensor([1.0, float("nan"), -0.0]),
}
STATE = {
    "epoch": 3,
    "state_dict": {"w": torch.tensor([1.0, float("nan"), -0.0])},
    "optimizer_states": [{"state": {0: {"step": torch.tensor(5.0)}}, "betas": (0.9, 0.999)}],
    "callbacks": {"A": {"best": None, "flag": True, "loss": 0.1}},
    "tables": TABLES,
}
FILES = [
    "tensors.safetensors",
    "state.json",
    "tables/layout.json",
    "tables/rank-00000.safetensors",
    "SHA256SUMS",
]


@pytest.fixture
def io():
    io = SafetensorsCheckpointIO()
    yield io
    io.teardown()


def save(io, folder, **changes):
    io.save_checkpoint({**STATE, **changes}, folder)
    io.wait()
    return folder


def bits(tensor):
    return tensor.contiguous().view(torch.int32).tolist()


def tables_of(io, folder):
    live = {name: torch.full_like(tensor, 7) for name, tensor in TABLES.items()}
    io.load_tables(folder, live)
    return live


def fail(*_):
    raise OSError(28, "No space left on device")


def test_a_state_reads_back_with_its_tuples_integer_keys_and_bits(io, tmp_path):
    read = io.load_checkpoint(save(io, tmp_path / "c"))
    assert read["optimizer_states"][0]["betas"] == (0.9, 0.999)
    assert read["optimizer_states"][0]["state"][0]["step"].item() == 5.0
    assert read["callbacks"] == STATE["callbacks"]
    assert bits(read["state_dict"]["w"]) == bits(STATE["state_dict"]["w"])


def test_tables_are_filled_in_place_and_are_no_part_of_the_rest(io, tmp_path):
    read = io.load_checkpoint(save(io, tmp_path / "c"))
    assert "tables" not in read
    live = tables_of(io, tmp_path / "c")
    assert {n: bits(t) for n, t in live.items()} == {n: bits(t) for n, t in TABLES.items()}


def test_a_checkpoint_may_have_no_tables(io, tmp_path):
    io.save_checkpoint({"epoch": 1, "state_dict": {}}, tmp_path / "c")
    assert io.load_checkpoint(tmp_path / "c") == {"epoch": 1, "state_dict": {}}


def test_coreutils_agree_with_the_checksums(io, tmp_path):
    folder = save(io, tmp_path / "c")
    subprocess.run(["sha256sum", "--quiet", "-c", "SHA256SUMS"], cwd=folder, check=True)
    listed = {line.split("  ")[1] for line in (folder / "SHA256SUMS").read_text().splitlines()}
    assert listed == set(FILES) - {"SHA256SUMS"}


@pytest.mark.parametrize("name", FILES)
def test_one_flipped_bit_in_any_file_is_refused(io, tmp_path, name):
    path = save(io, tmp_path / "c") / name
    for position in range(0, path.stat().st_size, 7):
        content = bytearray(path.read_bytes())
        content[position] ^= 1
        path.write_bytes(content)
        with pytest.raises(RecsysError):
            io.load_checkpoint(tmp_path / "c")
        content[position] ^= 1
        path.write_bytes(content)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_refused(io, tmp_path, name):
    (save(io, tmp_path / "c") / name).unlink()
    with pytest.raises(RecsysError, match=Path(name).name):
        io.load_checkpoint(tmp_path / "c")


def test_training_goes_on_while_the_thread_writes_what_was(io, tmp_path, monkeypatch):
    go_on, write_staged = threading.Event(), checkpoint_io.write_staged

    def write_slowly(*arguments):
        go_on.wait()
        return write_staged(*arguments)

    monkeypatch.setattr(checkpoint_io, "write_staged", write_slowly)
    tables, weights = {"C1/weight": torch.zeros(2, 4)}, torch.zeros(2)
    done = []
    io.save_checkpoint({"tables": tables, "state_dict": {"w": weights}}, tmp_path / "c")
    io.then(lambda: done.append((tmp_path / "c").is_dir()))
    tables["C1/weight"] += 1  # the next step
    weights += 1
    assert done == []
    assert not (tmp_path / "c").exists()
    go_on.set()
    io.wait()
    assert done == [True]
    assert io.load_checkpoint(tmp_path / "c")["state_dict"]["w"].tolist() == [0, 0]
    live = {"C1/weight": torch.ones(2, 4)}
    io.load_tables(tmp_path / "c", live)
    assert live["C1/weight"].sum() == 0


def test_what_is_saved_first_is_written_first(io, tmp_path):
    order = []
    for name in "abc":
        io.save_checkpoint(STATE, tmp_path / name)
        io.then(lambda: order.append(sorted(path.name for path in tmp_path.iterdir())))
    io.wait()
    assert order == [["a"], ["a", "b"], ["a", "b", "c"]]


@pytest.mark.parametrize("place", ["write_state", "write_staged", "write_checksums", "_finish"])
def test_a_failed_write_is_told_and_leaves_nothing_that_looks_whole(
    io, tmp_path, monkeypatch, place
):
    monkeypatch.setattr(checkpoint_io, place, fail)
    with pytest.raises(RecsysError, match=r"could not be written(.|\n)*No space left on device"):
        save(io, tmp_path / "c")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_checkpoint_that_was_there(io, tmp_path, monkeypatch):
    save(io, tmp_path / "c")
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_io, "write_checksums", fail)
        with pytest.raises(RecsysError, match="No space left on device"):
            save(io, tmp_path / "c", epoch=4)
    assert io.load_checkpoint(tmp_path / "c")["epoch"] == 3
    save(io, tmp_path / "c", epoch=5)  # a later state replaces it, and nothing else is left
    assert io.load_checkpoint(tmp_path / "c")["epoch"] == 5
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_a_failure_in_the_background_stops_the_next_checkpoint_and_deletes_nothing(
    io, tmp_path, monkeypatch
):
    deleted = []
    monkeypatch.setattr(table_storage, "save_file", fail)
    io.save_checkpoint(STATE, tmp_path / "c")
    io.then(lambda: deleted.append("old"))
    io._thread.submit(lambda: None).result()
    with pytest.raises(RecsysError, match="No space left on device"):
        io.save_checkpoint(STATE, tmp_path / "d")
    assert deleted == []
    io.wait()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_device_is_told(io, tmp_path, monkeypatch):
    begin = checkpoint_io._begin

    def begin_on_full_device(staged):
        partial = begin(staged)
        (partial.path / "tables").mkdir()
        (partial.path / "tables" / "layout.json").symlink_to("/dev/full")
        return partial

    monkeypatch.setattr(checkpoint_io, "_begin", begin_on_full_device)
    with pytest.raises(RecsysError, match="No space left on device"):
        save(io, tmp_path / "c")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_permission_is_told(io, tmp_path):
    (tmp_path / "a file").write_text("")
    with pytest.raises(RecsysError, match="could not be written"):
        save(io, tmp_path / "a file" / "c")


@pytest.mark.parametrize("name", ["tensors.safetensors", "state.json"])
def test_a_pickle_in_place_of_a_file_runs_no_code(io, tmp_path, name):
    class Hostile:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    folder = save(io, tmp_path / "c")
    (folder / name).write_bytes(pickle.dumps(Hostile()))
    checkpoint_io.write_checksums(folder)
    with pytest.raises(RecsysError, match="damaged"):
        io.load_checkpoint(folder)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        '{"$items": []}',
        '{"a": 1, "b": 2}',
        '{"$tensor": "other"}',
        '{"$tensor": []}',
        '{"$items": 3}',
        '{"$items": [[[], 1]]}',
        "[" * 100_000,
    ],
)
def test_a_hostile_state_file_is_refused(io, tmp_path, text):
    folder = save(io, tmp_path / "c")
    (folder / "state.json").write_text(text)
    checkpoint_io.write_checksums(folder)
    with pytest.raises(RecsysError, match="damaged"):
        io.load_checkpoint(folder)


def test_what_cannot_be_kept_is_refused_when_saved(io, tmp_path):
    with pytest.raises(TypeError, match="callbacks/A"):
        io.save_checkpoint({"callbacks": {"A": object()}}, tmp_path / "c")


def test_weights_are_read_from_a_checkpoint_of_either_kind(io, tmp_path):
    save(io, tmp_path / "all")
    save_weights(STATE["state_dict"], TABLES, tmp_path / "best")
    for name in ("all", "best"):
        live = {name: torch.zeros_like(tensor) for name, tensor in TABLES.items()}
        dense = load_weights(tmp_path / name, live)
        assert bits(dense["w"]) == bits(STATE["state_dict"]["w"])
        assert torch.equal(live["C1/weight"], TABLES["C1/weight"])
        assert live["C1/momentum1"].tolist() == [0, 0, 0]


# -- kill −9 ------------------------------------------------------------------------------------

# Forks a writer for each file operation below the folder, and ends it right before that operation.
# The new checkpoint has the name of the old one, or another, and then the old one is deleted.
KILLED = """
import os, shutil, sys, torch
from pathlib import Path
from recsys.training.checkpoint.io import SafetensorsCheckpointIO
torch.set_num_threads(1)

def save(place, step, name, *old):
    io = SafetensorsCheckpointIO()
    tables = {"C1/weight": torch.full((2, 4), step)}
    io.save_checkpoint({"step": step, "state_dict": {}, "tables": tables}, place / name)
    io.then(lambda: [io.remove_checkpoint(place / name) for name in old])
    io.wait()
    io.teardown()

def kill_before(number, place):
    def hook(event, arguments):
        nonlocal number
        if any(str(place) in str(argument) for argument in arguments):
            number -= 1
            if number < 0:
                os._exit(9)
    sys.addaudithook(hook)

def kill_everywhere(folder, *names):
    save(folder / "start", 1, "step-000000001")
    for number in range(1000):
        place = folder / str(number)
        shutil.copytree(folder / "start", place)
        process = os.fork()
        if process == 0:
            kill_before(number, place)
            save(place, 2, *names)
            os._exit(0)
        if os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0:
            break
    shutil.rmtree(folder / "start")

kill_everywhere(Path(sys.argv[1], "same name"), "step-000000001")
kill_everywhere(Path(sys.argv[1], "new name"), "step-000000002", "step-000000001")
"""


@pytest.mark.slow
def test_a_kill_at_any_file_operation_leaves_a_whole_checkpoint(io, tmp_path):
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=True)
    for folder in tmp_path.iterdir():
        places = sorted(folder.iterdir(), key=lambda place: int(place.name))
        steps = [step_after_a_kill(io, place) for place in places]
        assert steps == sorted(steps)  # once the new one is there, it stays
        assert set(steps) == {1, 2}
        assert len(steps) > 25


def step_after_a_kill(io, place):
    latest = latest_whole_checkpoint(place)
    step = io.load_checkpoint(latest)["step"]
    live = {"C1/weight": torch.zeros(2, 4, dtype=torch.int64)}
    io.load_tables(latest, live)
    assert live["C1/weight"].tolist() == [[step] * 4] * 2
    for other in whole_checkpoints(place):
        io.load_checkpoint(other)
    assert list(place.glob(".*")) == []
    return step


# -- several ranks ------------------------------------------------------------------------------


def join(rank, tmp_path):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=rank, world_size=2)
    try:
        two_ranks(rank, SafetensorsCheckpointIO(dist.new_group(backend="gloo"), rank), tmp_path)
        dist.barrier()
    finally:
        dist.destroy_process_group()


def two_ranks(rank, io, tmp_path):
    folder, done = Path(tmp_path) / "c", []
    # The thread speaks in its own group while training does in another.
    for _ in range(3):
        io.save_checkpoint(STATE, folder)
        io.then(lambda: done.append(rank))
        dist.all_reduce(torch.ones(3))
    io.wait()
    assert done == ([0] * 3 if rank == 0 else [])
    assert io.load_checkpoint(folder)["epoch"] == 3
    assert bits(tables_of(io, folder)["C1/weight"]) == bits(TABLES["C1/weight"])
    # A file that only one rank reads is damaged: both refuse.
    dist.barrier()
    path = folder / "tables" / "rank-00000.safetensors"
    content = path.read_bytes()
    if rank == 0:
        path.write_bytes(content[:-1] + b"x")
    dist.barrier()
    with pytest.raises(RecsysError, match="checksum differs"):
        io.load_checkpoint(folder)
    # The first rank cannot write its part: both hear of it, and the checkpoint before stays.
    dist.barrier()
    if rank == 0:
        path.write_bytes(content)
        checkpoint_io.write_state = fail
    with pytest.raises(RecsysError, match="No space left on device"):
        save(io, folder, epoch=4)
    assert io.load_checkpoint(folder)["epoch"] == 3
    io.teardown()


@pytest.mark.slow
@pytest.mark.distributed
def test_ranks_write_one_checkpoint_together_and_fail_together(tmp_path):
    multiprocessing.spawn(join, (str(tmp_path),), nprocs=2)
    live = {name: torch.zeros_like(tensor) for name, tensor in TABLES.items()}
    load_weights(tmp_path / "c", live)
    assert torch.equal(live["C1/weight"], TABLES["C1/weight"])
