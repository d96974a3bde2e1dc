"""Wheels for a GPU machine that has torch but no network, as small as possible.

    python -m tools.wheels --trio 2.11 --python 3.12 --architecture 90 --has image.txt \
        --out wheels
    there: python3 -m pip install --no-index --no-deps --target site wheels/*/*.whl

`image.txt` lists the packages that the machine's image has, one a line. The CUDA build of fbgemm
holds its kernels once for each architecture: only those of one are kept (90 is an H100 or H200),
and none of the libraries that training does not call. What is not kept is overwritten with zeros,
which compress to nothing; nothing moves. Without --architecture it is the CPU build that is taken,
with which the plain store serves.
"""

import argparse
import re
import struct
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
REQUIREMENTS = ROOT / "requirements"
EXTRAS = ("train", "fused", "fused-cpu")
PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in (17, 24, 27, 28, 31, 34)]
# inference, global weight decay, variable batch sizes
NOT_TRAINING = ("tbe_inference.so", "backward_gwd.so", "backward_vbe.so")
# a container of kernels and a kernel in it, as nvcc writes them
FAT_BINARY, FAT_MAGIC, KERNEL = struct.Struct("<IHHQ"), b"\x50\xed\x55\xba", struct.Struct("<HHIQ")
ARCHITECTURE_OFFSET, MACHINE_CODE = 28, 2


def main() -> None:
    arguments = parse()
    has = {canonicalize_name(line) for line in arguments.has.read_text().split()}
    pins = wanted(arguments.trio, "cpu" if arguments.architecture is None else "cuda")
    missing = [f"{name}=={version}" for name, version in pins.items() if name not in has]
    with tempfile.TemporaryDirectory() as folder:
        for pin in (*missing, str(ROOT)):  # recsys too: `recsys doctor` reads its requirements
            fetch(pin, arguments.python, Path(folder))
        parts = [Path(folder) / "packed" / wheel.name for wheel in Path(folder).glob("*.whl")]
        parts[0].parent.mkdir()
        for packed in parts:
            pack(packed.parents[1] / packed.name, packed, arguments.architecture)
            print(f"{packed.stat().st_size / 1e6:8.1f} MB  {packed.name}", flush=True)
        split_into_folders(parts, arguments.out, arguments.part_megabytes * 1_000_000)


def wanted(trio: str, device: str) -> dict[str, str]:
    """The exact pins of an installation without torch, and the versions here of what they need."""
    pinned: dict[str, str] = {}
    for path in ("constraints.txt", f"torch-{trio}.txt"):
        found = re.findall(r"^([\w-]+)==(\S+)$", (REQUIREMENTS / path).read_text(), re.MULTILINE)
        pinned |= {canonicalize_name(name): version for name, version in found}
    unneeded = {"torch", "recsys", "fbgemm-gpu" if device == "cpu" else "fbgemm-gpu-cpu"}
    needed = {name for extra in EXTRAS for name in needs("recsys", extra)} - unneeded
    pins = {name: pinned[name] for name in sorted(needed)}
    queue = [name for name in pins if name != "torchrec"]
    while queue:
        for name in needs(queue.pop()):
            if name not in pins and name != "torch":
                pins[name] = metadata.version(name)
                queue.append(name)
    return pins


def needs(name: str, extra: str = "") -> Iterator[str]:
    try:
        requirements = [Requirement(text) for text in metadata.requires(name) or []]
    except metadata.PackageNotFoundError:  # fbgemm's other build, which needs nothing more
        return
    for requirement in requirements:
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
            yield canonicalize_name(requirement.name)


def fetch(pin: str, python: str, folder: Path) -> None:
    """A wheel for that Python, or one built here from a source without extensions."""
    pip = [sys.executable, "-m", "pip", "--quiet"]
    binary = [*pip, "download", "--no-deps", "--only-binary=:all:", "--python-version", python]
    platforms = [f"--platform={platform}" for platform in PLATFORMS]
    done = subprocess.run([*binary, *platforms, "--dest", folder, pin], capture_output=True)
    if done.returncode:
        subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", folder, pin], check=True)


def pack(wheel: Path, packed: Path, architecture: int | None) -> None:
    """The same wheel, compressed harder, with the kernels of one architecture."""
    with zipfile.ZipFile(wheel) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_LZMA) as target:
        for name in source.namelist():
            content = source.read(name)
            if name.endswith(".so") and architecture is not None and FAT_MAGIC in content:
                keep = 0 if name.endswith(NOT_TRAINING) else architecture
                content = bytes(without_other_kernels(content, keep))
            target.writestr(name, content)


def without_other_kernels(library: bytes, architecture: int) -> bytearray:
    """The library with the machine code for other architectures overwritten by zeros."""
    thin = bytearray(library)
    start = thin.find(FAT_MAGIC)
    while start >= 0:
        _, version, header_size, size = FAT_BINARY.unpack_from(thin, start)
        end = start + header_size + size
        if version == 1 and header_size == FAT_BINARY.size and end <= len(thin):
            blank_kernels(thin, start + header_size, end, architecture)
        else:
            end = start + len(FAT_MAGIC)  # these bytes meant something else
        start = thin.find(FAT_MAGIC, end)
    return thin


def blank_kernels(thin: bytearray, first: int, end: int, architecture: int) -> None:
    while first < end:
        kind, _, header_size, size = KERNEL.unpack_from(thin, first)
        (found,) = struct.unpack_from("<I", thin, first + ARCHITECTURE_OFFSET)
        if (kind, found) != (MACHINE_CODE, architecture):
            thin[first + header_size : first + header_size + size] = bytes(size)
        first += header_size + size


def split_into_folders(wheels: list[Path], out: Path, part_bytes: int) -> None:
    """Folders of at most `part_bytes` each, the largest wheels first."""
    rooms: list[int] = []
    for wheel in sorted(wheels, key=lambda path: -path.stat().st_size):
        size = wheel.stat().st_size
        part = next((i for i, room in enumerate(rooms) if room >= size), len(rooms))
        if part == len(rooms):
            rooms.append(part_bytes)
        rooms[part] -= size
        folder = out / f"part-{part}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / wheel.name).write_bytes(wheel.read_bytes())
    for i, room in enumerate(rooms):
        print(f"{out / f'part-{i}'}: {(part_bytes - room) / 1e6:.1f} MB")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trio", default="2.11", help="torch's release there")
    parser.add_argument("--python", default="3.12", help="Python's release there")
    parser.add_argument("--architecture", type=int, help="of the GPU; takes fbgemm's CUDA build")
    parser.add_argument("--has", type=Path, required=True, help="packages that are there")
    parser.add_argument("--part-megabytes", type=int, default=60)
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args()


if __name__ == "__main__":
    main()
