"""Files that are padded, cut or endless are refused by their size, before they are hashed."""

import os

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import save_file

from recsys.errors import RecsysError
from recsys.io.checksums import verify_checksums, write_checksums
from recsys.io.file_sizes import check_size


@pytest.fixture
def folder(tmp_path):
    save_file({"a": np.zeros((3, 2), np.float32)}, tmp_path / "a.safetensors")
    pl.DataFrame({"x": [1]}).write_parquet(tmp_path / "b.parquet")
    (tmp_path / "c.json").write_text("{}")
    write_checksums(tmp_path)
    return tmp_path


NAMES = ["a.safetensors", "b.parquet", "c.json"]


@pytest.mark.parametrize("name", NAMES)
def test_a_file_of_terabytes_is_refused_at_once(folder, name):
    check_size(folder / name)
    os.truncate(folder / name, 2**43)
    with pytest.raises(RecsysError, match=f"(padded|too large)(.|\n)*{name}"):
        verify_checksums(folder)


@pytest.mark.parametrize("name", NAMES[:2])
def test_a_file_that_was_cut_is_refused(folder, name):
    os.truncate(folder / name, (folder / name).stat().st_size - 1)
    with pytest.raises(RecsysError, match="cut short"):
        check_size(folder / name)


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff" * 8, b"\x04" + bytes(7) + b"null", b"\x0a" + bytes(7) + b'{"a": "b"}'],
)
def test_a_damaged_safetensors_header_is_refused(folder, content):
    (folder / "a.safetensors").write_bytes(content)
    with pytest.raises(RecsysError, match=r"safetensors|JSON"):
        check_size(folder / "a.safetensors")
