"""Compares what an allocation will take with what there is, before anything large is allocated."""

import resource
from pathlib import Path

from recsys.errors import RecsysError

UNLIMITED = 2**62
# How the libraries say that memory ran out: torch, Arrow, polars, onnxruntime, C++.
_OUT_OF_MEMORY = (
    "can't allocate memory",
    "CUDA out of memory",
    "Storage size calculation overflowed",
    "malloc of size",
    "realloc of size",
    "out of memory",
    "Failed to allocate memory",
    "std::bad_alloc",
    "Cannot allocate memory",
)


def available_bytes() -> int:
    """What this process may still allocate: the machine's, its control group's, its own limit."""
    return min(_of_machine(), _of_group(), _of_process())


def check_memory(needed: int, what: str, *, where: object, fix: str | None = None) -> None:
    """Raises RecsysError if `needed` bytes are more than there are.

    Args:
        needed: bytes.
        what: what takes them, as the message's subject: "the tables".
        where: the feature, key or file that decides it.
        fix: what the user can do.
    """
    available = available_bytes()
    if needed > available:
        raise RecsysError(
            f"{what} would not fit into memory",
            where=where,
            expected=f"at most {available:,} bytes, which are available",
            got=f"{needed:,} bytes",
            fix=fix,
        )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception, of whatever library, means that memory ran out."""
    if isinstance(error, MemoryError):
        return True
    return any(words in str(error) for words in _OUT_OF_MEMORY)


def out_of_memory(error: BaseException, where: object = None) -> RecsysError:
    """The message for memory that ran out."""
    lines = str(error).strip().splitlines()
    return RecsysError(
        "out of memory",
        where=where,
        got=lines[0][:300] if lines else None,
        fix="free memory, raise the limit, or use smaller tables, batches or data.shuffle_rows",
    )


def _of_machine() -> int:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return UNLIMITED
    sizes = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    return sizes[0] if sizes else UNLIMITED


def _of_group() -> int:
    """Version 2 control groups, as containers use them."""
    folder = Path("/sys/fs/cgroup")
    try:
        limit = (folder / "memory.max").read_text().strip()
        used = int((folder / "memory.current").read_text())
    except (OSError, ValueError):
        return UNLIMITED
    return UNLIMITED if limit == "max" else max(int(limit) - used, 0)


def _of_process() -> int:
    """`ulimit -v`, less the address space that is taken."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return UNLIMITED
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return max(limit - pages * resource.getpagesize(), 0)
