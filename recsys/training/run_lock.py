"""One process at a time in a run folder; the lock dies with its holder, kill -9 included."""

import errno
import fcntl
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from recsys.errors import RecsysError

LOCK_FILE = ".lock"
# Some network and user-space file systems have no locks: there a run goes on without one.
NO_LOCKS_HERE = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@contextmanager
def run_lock(run_dir: Path, *, rank: int = 0) -> Iterator[None]:
    """Holds the folder, made if need be; raises RecsysError when another process holds it.

    The ranks of one run share rank 0's lock. A folder that was made here and got nothing goes away.
    """
    if rank > 0:
        yield
        return
    is_new = not run_dir.exists()
    descriptor = _acquire(run_dir)
    try:
        yield
    finally:
        # Before the lock is let go: whoever waits on the unlinked file sees that and starts again.
        with suppress(OSError):
            (run_dir / LOCK_FILE).unlink()
        os.close(descriptor)
        if is_new:
            with suppress(OSError):
                run_dir.rmdir()


def _acquire(run_dir: Path) -> int:
    """An open, locked descriptor of the lock file, which names this process."""
    path = run_dir / LOCK_FILE
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            _lock(descriptor, run_dir)
            if _is_still(path, descriptor):
                break
            os.close(descriptor)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {platform.node()}".encode(), 0)
    except OSError as error:
        raise RecsysError(
            "the run folder cannot be written", where=run_dir, got=error.strerror
        ) from None
    return descriptor


def _lock(descriptor: int, run_dir: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 1000, 0).decode(errors="replace")
        os.close(descriptor)
        raise RecsysError(
            "another process is at work in this run folder",
            where=run_dir,
            got=holder or "a process that has just started",
            fix="wait until it has ended, or choose another --out",
        ) from None
    except OSError as error:
        if error.errno not in NO_LOCKS_HERE:
            raise


def _is_still(path: Path, descriptor: int) -> bool:
    """False when the last holder unlinked the file between our open and our lock."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
