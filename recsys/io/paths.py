"""Decides which file may be opened, for every path that a file of someone else names.

Datasets, runs, checkpoints and exports may come from strangers. A path that one of their files
names must be relative, must stay inside the artifact's folder with all symbolic links resolved, and
must lead to a regular file: never to a pipe, a device or a folder. The artifact's folder itself may
be reached through a link. Text is read only up to a stated size.
"""

import errno
import hashlib
import os
import stat
from pathlib import Path, PurePosixPath
from typing import Annotated

from pydantic import AfterValidator

from recsys.errors import RecsysError

# A schema of 10,000 features takes 4 MB, an allocation with a bitmap of 10^9 kept ids 170 MB.
MAX_TEXT_BYTES = 256 * 2**20


def _relative(name: str) -> str:
    if not name or "\x00" in name or "\\" in name:
        raise ValueError("a relative path without backslashes")
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or path.parts == ():
        raise ValueError("a path inside this folder: relative, without `..`")
    return name


# What a schema or a manifest may name: the first check; `file_inside` also resolves links.
RelativePath = Annotated[str, AfterValidator(_relative)]


def file_inside(folder: Path, name: str | Path) -> Path:
    """Returns the path of a regular file below `folder`.

    Args:
        folder: the artifact's folder.
        name: a relative path, as a file of the artifact names it.

    Raises:
        RecsysError: for a path that leads out of the folder or not to a regular file.
        FileNotFoundError: if there is no such file.
    """
    path = _inside(folder, name)
    _check_regular(path.stat(), path)
    return path


def new_file_inside(folder: Path, name: str | Path) -> Path:
    """Returns where a file below `folder` is to be written, its parent folders made.

    Raises:
        RecsysError: for a path that leads out of the folder, through links included.
    """
    path = _inside(folder, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def regular_file(path: Path) -> Path:
    """Returns the path if it leads to a regular file, for files that a user names.

    Raises:
        RecsysError: for a pipe, a device, a socket or a folder.
        FileNotFoundError: if there is no such file.
    """
    _check_regular(path.stat(), path)
    return path


def read_bytes(path: Path, max_bytes: int = MAX_TEXT_BYTES) -> bytes:
    """Reads a regular file of at most `max_bytes`.

    Raises:
        RecsysError: for anything but a regular file, and for a larger one.
        FileNotFoundError, PermissionError: as `open` does.
    """
    # Opening a pipe must not wait for its writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        facts = os.fstat(descriptor)
        _check_regular(facts, path)
        if facts.st_size > max_bytes:
            raise RecsysError(
                "the file is too large",
                where=path,
                expected=f"at most {max_bytes:,} bytes",
                got=f"{facts.st_size:,} bytes",
            )
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(max_bytes)
    finally:
        os.close(descriptor)


def read_text(path: Path, max_bytes: int = MAX_TEXT_BYTES) -> str:
    """Reads a regular UTF-8 file of at most `max_bytes`; errors as of `read_bytes`."""
    try:
        return read_bytes(path, max_bytes).decode("utf-8")
    except UnicodeDecodeError as error:
        raise RecsysError(
            "the file is not UTF-8 text",
            where=path,
            got=f"byte 0x{error.object[error.start]:02x} at offset {error.start:,}",
        ) from None


def regular_files(folder: Path) -> set[str]:
    """Returns the names of all files below the folder, which may hold nothing else but folders.

    Raises:
        RecsysError: for a link, a pipe, a device or a socket.
    """
    names = set()
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(parent, name)
            mode = path.lstat().st_mode
            if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
                raise _not_regular(path, mode)
        names |= {Path(parent, name).relative_to(folder).as_posix() for name in files}
    return names


def _inside(folder: Path, name: str | Path) -> Path:
    text = name.as_posix() if isinstance(name, Path) else name
    try:
        path = folder / _relative(text)
        target, root = path.resolve(), folder.resolve()
    except (ValueError, RuntimeError) as error:  # RuntimeError: a loop of links
        raise _outside(folder, text, str(error)) from None
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise _outside(folder, text, "a loop of links") from None
    if target.is_symlink():  # from Python 3.13 on, `resolve` gives a loop back as it is
        raise _outside(folder, text, "a loop of links")
    if not target.is_relative_to(root) or target == root:
        raise _outside(folder, text, f"leads to {target}")
    return path


def _outside(folder: Path, name: str, problem: str) -> RecsysError:
    return RecsysError(
        "a path leads out of its folder",
        where=folder,
        expected="a relative path to a regular file inside the folder, links resolved",
        got=f"{name[:200]!r} ({problem})",
    )


def _check_regular(facts: os.stat_result, path: Path) -> None:
    if not stat.S_ISREG(facts.st_mode):
        raise _not_regular(path, facts.st_mode)


_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def _not_regular(path: Path, mode: int) -> RecsysError:
    kind = next((words for test, words in _KINDS if test(mode)), "something else")
    return RecsysError("not a regular file", where=path, expected="a regular file", got=kind)


def sha256_of(path: Path) -> str:
    """The hexadecimal sha256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
