"""Checkpoints: exact, whole or not there, and unable to run code."""

import pickle

import pytest
import torch

from recsys.errors import RecsysError
from recsys.training import checkpoint_io
from recsys.training.checkpoint_io import SafetensorsCheckpointIO

STATE = {
    "epoch": 3,
    "state_dict": {"w": torch.tensor([1.0, float("nan"), -0.0])},
    "optimizer_states": [{"state": {0: {"step": torch.tensor(5.0)}}, "betas": (0.9, 0.999)}],
    "callbacks": {"A": {"best": None, "flag": True, "loss": 0.1}},
}


def save(folder):
    SafetensorsCheckpointIO().save_checkpoint(STATE, folder)
    return folder


def test_a_state_reads_back_with_its_tuples_integer_keys_and_bits(tmp_path):
    read = SafetensorsCheckpointIO().load_checkpoint(save(tmp_path / "c"))
    assert read["optimizer_states"][0]["betas"] == (0.9, 0.999)
    assert read["optimizer_states"][0]["state"][0]["step"].item() == 5.0
    assert read["callbacks"] == STATE["callbacks"]
    bits = [t["state_dict"]["w"].view(torch.int32).tolist() for t in (read, STATE)]
    assert bits[0] == bits[1]


@pytest.mark.parametrize("name", ["tensors.safetensors", "state.json", "SHA256SUMS"])
def test_one_flipped_bit_in_any_file_is_refused(tmp_path, name):
    path = save(tmp_path / "c") / name
    for position in range(0, path.stat().st_size, 7):
        content = bytearray(path.read_bytes())
        content[position] ^= 1
        path.write_bytes(content)
        with pytest.raises(RecsysError):
            SafetensorsCheckpointIO().load_checkpoint(tmp_path / "c")
        content[position] ^= 1
        path.write_bytes(content)


@pytest.mark.parametrize("name", ["tensors.safetensors", "state.json", "SHA256SUMS"])
def test_a_missing_file_is_refused(tmp_path, name):
    (save(tmp_path / "c") / name).unlink()
    with pytest.raises(RecsysError):
        SafetensorsCheckpointIO().load_checkpoint(tmp_path / "c")


def test_a_failed_write_leaves_nothing_that_looks_whole(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint_io, "write_checksums", fail)
    with pytest.raises(RecsysError, match="No space left on device"):
        save(tmp_path / "c")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_checkpoint_that_was_there(tmp_path, monkeypatch):
    save(tmp_path / "c")

    def fail(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_io, "write_checksums", fail)
        with pytest.raises(RecsysError, match="No space left on device"):
            save(tmp_path / "c")
    assert SafetensorsCheckpointIO().load_checkpoint(tmp_path / "c")["epoch"] == 3
    save(tmp_path / "c")  # a later state replaces it, and nothing else is left
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_a_pickle_in_place_of_a_checkpoint_runs_no_code(tmp_path):
    class Hostile:
        def __reduce__(self):
            return (pytest.fail, ("a checkpoint ran code",))

    folder = save(tmp_path / "c")
    for name in ("tensors.safetensors", "state.json"):
        (folder / name).write_bytes(pickle.dumps(Hostile()))
    checkpoint_io.write_checksums(folder)
    with pytest.raises(RecsysError, match="damaged"):
        SafetensorsCheckpointIO().load_checkpoint(folder)


def test_what_cannot_be_kept_is_refused_when_written(tmp_path):
    with pytest.raises(TypeError, match="callbacks/A"):
        SafetensorsCheckpointIO().save_checkpoint({"callbacks": {"A": object()}}, tmp_path / "c")
