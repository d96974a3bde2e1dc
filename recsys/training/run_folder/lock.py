"""One process at a time in a run folder."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from recsys.errors import RecsysError
from recsys.io.lock import file_lock

LOCK_FILE = ".lock"


@contextmanager
def run_lock(run_dir: Path, *, rank: int = 0) -> Iterator[None]:
    """Holds the lock of a run folder, which is made if needed.

    The ranks of one run share the lock of rank 0. A new folder that is still empty at the end is
    removed.

    Raises:
        RecsysError: if another process holds the lock.
    """
    if rank > 0:
        yield
        return
    is_new = not run_dir.exists()
    with ExitStack() as held:
        held.callback(_remove_if_empty, run_dir if is_new else None)
        try:
            run_dir.mkdir(parents=True, exist_ok=True)
            busy = "another process is at work in this run folder"
            held.enter_context(file_lock(run_dir / LOCK_FILE, busy))
        except OSError as error:
            raise RecsysError(
                "the run folder cannot be written", where=run_dir, got=error.strerror
            ) from None
        yield


def _remove_if_empty(folder: Path | None) -> None:
    if folder is not None:
        with suppress(OSError):
            folder.rmdir()
