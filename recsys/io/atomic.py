"""Files and folders that get their name only when they are complete.

A writer works in a hidden folder beside its target, `.NAME.PID-RANDOM.partial`, and holds a lock on
it. When everything is written, it is flushed to disk, gets the umask's mode, and is renamed. The
lock ends with the process, kill -9 included, so every later writer in the same parent folder can
remove what dead processes left, and never what a live one is writing.
"""

import errno
import fcntl
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from recsys.errors import RecsysError

# Some network and user-space file systems have no locks: nothing is removed there.
NO_LOCKS_HERE = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
_PARTIAL_NAME = re.compile(r"\.(?P<final>.+)\.\d+-[0-9a-f]{8}\.partial", re.DOTALL)
_REPLACED, _REMOVED = "replaced by the new folder", "removed"


class Partial:
    """A file or folder under construction at `path`; `publish` gives it the name `final`.

    Call `discard` in the end in any case. The context managers below do both.
    """

    def __init__(self, final: Path, *, beside: Path | None = None) -> None:
        """`beside`: a path whose parent holds the hidden folder, on the file system of `final`."""
        self.final = final.absolute()
        parent = (beside or final).absolute().parent
        parent.mkdir(parents=True, exist_ok=True)
        remove_dead_partials(parent)
        self._work, self._lock = _make_locked_folder(parent, final.name)
        self.path = self._work / final.name

    def publish(self) -> None:
        """Flushes what was written, then renames it; an existing file or folder is replaced."""
        _flush_with_default_modes(self.path, self._work.stat().st_mode & 0o777)
        if self.path.is_dir() and self.final.exists():
            self.final.rename(self._work / _REPLACED)  # put back by whoever removes `_work`
        self.path.rename(self.final)
        sync(self.final.parent)

    def discard(self) -> None:
        """Removes the hidden folder with all that is still in it."""
        if self._lock >= 0:
            _remove(self._work, self.final)
            os.close(self._lock)
            self._lock = -1


@contextmanager
def atomic_write(path: Path, *, beside: Path | None = None) -> Iterator[Path]:
    """Where to write a file, which becomes `path` at the end; after an error nothing is left."""
    partial = Partial(path, beside=beside)
    try:
        yield partial.path
        partial.publish()
    finally:
        partial.discard()


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """An empty folder to fill, which becomes `path` at the end; after an error nothing is left."""
    with atomic_write(path) as folder:
        folder.mkdir()
        yield folder


def write_text(path: Path, text: str) -> None:
    """Writes a UTF-8 file, complete or not at all."""
    with atomic_write(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, content: object) -> None:
    """Writes a JSON file, complete or not at all."""
    write_text(path, json.dumps(content, indent=1) + "\n")


def remove_folder(folder: Path) -> None:
    """Deletes a folder; a kill in the middle leaves nothing under its name."""
    if not folder.exists():
        return
    partial = Partial(folder)
    try:
        folder.rename(partial.path)
    except OSError as error:
        raise RecsysError("the folder cannot be deleted", where=folder, got=error) from None
    finally:
        partial.discard()


def remove_dead_partials(parent: Path) -> None:
    """Removes what killed writers left in a folder, and restores what one was about to replace."""
    with suppress(OSError):
        for path in list(parent.iterdir()):
            match = _PARTIAL_NAME.fullmatch(path.name)
            if match is not None:
                _remove_if_dead(path, parent / match["final"])


def sync(path: Path) -> None:
    """Returns when a file's content, or a folder's list of names, is on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _make_locked_folder(parent: Path, name: str) -> tuple[Path, int]:
    """A new hidden folder and the descriptor whose lock protects it."""
    while True:
        work = parent / f".{name}.{os.getpid()}-{secrets.token_hex(4)}.partial"
        work.mkdir()
        try:
            lock = _try_lock(work)
        except OSError as error:
            if error.errno not in NO_LOCKS_HERE:
                raise
            return work, os.open(work, os.O_RDONLY)
        if lock is not None:
            return work, lock
        # another process saw the folder before it was locked, and removes it


def _try_lock(folder: Path) -> int | None:
    """A descriptor that holds the folder's lock; None if another has it or the folder is gone."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(folder.stat(), os.fstat(descriptor)):
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    except OSError:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def _remove_if_dead(work: Path, final: Path) -> None:
    with suppress(OSError):  # not ours to open, no folder, or no locks here
        lock = _try_lock(work)
        if lock is not None:
            try:
                _remove(work, final)
            finally:
                os.close(lock)


def _remove(work: Path, final: Path) -> None:
    """Removes a locked hidden folder; a folder that was to be replaced and was not is restored."""
    replaced = work / _REPLACED
    with suppress(OSError):
        if replaced.exists():
            # never deleted under this name: a half-deleted folder must not be restored
            replaced.rename(work / _REMOVED if final.exists() else final)
    if not replaced.exists():
        shutil.rmtree(work, ignore_errors=True)


def _flush_with_default_modes(path: Path, folder_mode: int) -> None:
    """Flushes a file or a tree; some libraries create files for their owner only (0600)."""
    for part in (path, *path.rglob("*")):
        if part.is_symlink():
            continue
        mode = folder_mode if part.is_dir() else folder_mode & 0o666
        if part.stat().st_mode & 0o777 != mode:
            part.chmod(mode)
        sync(part)
