"""What an allocation takes is compared with what there is before it is made."""

import resource

import pytest
import torch

from recsys.errors import RecsysError
from recsys.io.memory import available_bytes, check_memory, is_out_of_memory, out_of_memory


def test_what_fits_passes_and_what_does_not_is_named():
    check_memory(1, "a table", where="C1")
    with pytest.raises(RecsysError, match=r"a table would not fit(.|\n)*C1(.|\n)*1,152,921,504"):
        check_memory(2**60, "a table", where="C1")


def test_the_process_limit_counts(monkeypatch):
    assert available_bytes() > 2**20
    monkeypatch.setattr(resource, "getrlimit", lambda which: (0, 0))
    assert available_bytes() == 0


def test_torch_running_out_of_memory_is_recognized():
    for size in (2**50, 2**62):
        with pytest.raises(RuntimeError) as caught:
            torch.empty(size)
        assert is_out_of_memory(caught.value)
        assert "out of memory" in str(out_of_memory(caught.value, "here"))
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(ValueError("damaged"))
