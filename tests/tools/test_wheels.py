"""Wheels that are carried to a GPU machine: one architecture's kernels, folders of a size."""

from pathlib import Path

import pytest

from tools import wheels


def kernel(architecture: int, code: bytes) -> bytes:
    header_size = 64
    header = wheels.KERNEL.pack(wheels.MACHINE_CODE, 0, header_size, len(code))
    header = header.ljust(wheels.ARCHITECTURE_OFFSET, b"\0") + architecture.to_bytes(4, "little")
    return header.ljust(header_size, b"\0") + code


def fat_binary(*kernels: bytes) -> bytes:
    content = b"".join(kernels)
    magic = int.from_bytes(wheels.FAT_MAGIC, "little")
    return wheels.FAT_BINARY.pack(magic, 1, wheels.FAT_BINARY.size, len(content)) + content


def test_only_the_kernels_of_one_architecture_stay():
    library = (
        b"host code" + fat_binary(kernel(80, b"old" * 9), kernel(90, b"mine" * 9)) + b"host code"
    )
    library += fat_binary(kernel(100, b"new" * 9))
    thin = wheels.without_other_kernels(library, 90)
    expected = library.replace(b"old", b"\0\0\0").replace(b"new", b"\0\0\0")
    assert thin == expected


def test_bytes_that_only_look_like_kernels_are_left_alone():
    library = b"text " + wheels.FAT_MAGIC + b" and more text, no header of anything here"
    assert wheels.without_other_kernels(library, 90) == library


def test_wheels_are_split_into_folders_of_a_size(tmp_path):
    files = []
    for name, size in (("a", 60), ("b", 50), ("c", 40), ("d", 10)):
        files.append(tmp_path / f"{name}.whl")
        files[-1].write_bytes(bytes(size))
    wheels.split_into_folders(files, tmp_path / "out", part_bytes=100)
    folders = {p.name: {f.stem for f in p.iterdir()} for p in (tmp_path / "out").iterdir()}
    assert folders == {"part-0": {"a", "c"}, "part-1": {"b", "d"}}


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_what_is_carried_is_what_the_requirements_pin_but_for_torch(device):
    pins = wheels.wanted("2.11", device)
    assert pins["torchrec"] == "1.6.1"
    assert pins["fbgemm-gpu" if device == "cuda" else "fbgemm-gpu-cpu"] == "1.6.0"
    assert "pydantic-core" in pins  # what a requirement needs itself
    assert "torch" not in pins
    assert ("fbgemm-gpu" in pins) != ("fbgemm-gpu-cpu" in pins)
    assert "tensordict" in pins  # torchrec's own requirement
    assert Path(wheels.REQUIREMENTS).is_dir()
