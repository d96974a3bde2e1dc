"""An advisory lock on a file; it dies with its holder, kill -9 included."""

import fcntl
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from recsys.errors import RecsysError
from recsys.io.atomic import NO_LOCKS_HERE


@contextmanager
def file_lock(path: Path, busy: str) -> Iterator[None]:
    """Holds a lock file that names this process; raises RecsysError(busy) when another holds it."""
    descriptor = _acquire(path, busy)
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {platform.node()}".encode(), 0)
        yield
    finally:
        # Before the lock is let go: whoever waits on the unlinked file sees that and starts again.
        with suppress(OSError):
            path.unlink()
        os.close(descriptor)


def _acquire(path: Path, busy: str) -> int:
    """An open, locked descriptor."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        _lock(descriptor, path, busy)
        if _is_still(path, descriptor):
            return descriptor
        os.close(descriptor)


def _lock(descriptor: int, path: Path, busy: str) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 1000, 0).decode(errors="replace")
        os.close(descriptor)
        raise RecsysError(
            busy,
            where=path.parent,
            got=holder or "a process that has just started",
            fix="wait until it has ended, or choose another --out",
        ) from None
    except OSError as error:
        if error.errno not in NO_LOCKS_HERE:
            os.close(descriptor)
            raise


def _is_still(path: Path, descriptor: int) -> bool:
    """False when the last holder unlinked the file between our open and our lock."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
