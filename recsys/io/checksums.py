"""SHA256SUMS: one file, in coreutils' format, that says whether a folder is whole."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from recsys.errors import RecsysError
from recsys.io.file_sizes import check_size
from recsys.io.paths import read_bytes, regular_files, sha256_of

CHECKSUM_FILE = "SHA256SUMS"
NOTHING_KNOWN: Mapping[str, str] = MappingProxyType({})


def write_checksums(folder: Path, known: Mapping[str, str] = NOTHING_KNOWN) -> None:
    """Writes SHA256SUMS for every file below the folder (`sha256sum -c SHA256SUMS` checks it).

    The files in `known`, digest by name, are not read again.
    """
    lines = [f"{known.get(n) or sha256_of(folder / n)}  {n}\n" for n in sorted(_files(folder))]
    (folder / CHECKSUM_FILE).write_text("".join(lines))


def verify_checksums(folder: Path, *, share: tuple[int, int] = (0, 1)) -> None:
    """Refuses a folder in which a file is missing, added, or differs by one bit.

    `share` (i, n): reads only every n-th file from the i-th on, when n processes divide the work.
    """
    try:
        listed = _parse(read_bytes(folder / CHECKSUM_FILE).decode())
    except (FileNotFoundError, NotADirectoryError):
        raise RecsysError(f"{folder} is incomplete: it has no {CHECKSUM_FILE}") from None
    except ValueError:
        raise RecsysError("the checksum file is damaged", where=folder / CHECKSUM_FILE) from None
    except OSError as error:
        raise RecsysError("the checksum file cannot be read", got=str(error)) from None
    for name in sorted(_files(folder) ^ set(listed)):
        problem = "is missing" if name in listed else "does not belong here"
        raise RecsysError(f"{name} {problem}", where=folder, expected=f"as {CHECKSUM_FILE} lists")
    for name in sorted(listed)[share[0] :: share[1]]:
        _verify(folder / name, listed[name])


def _files(folder: Path) -> set[str]:
    return {name for name in regular_files(folder) if Path(name).name != CHECKSUM_FILE}


def _verify(path: Path, expected: str) -> None:
    try:
        check_size(path)
        got = sha256_of(path)
    except OSError as error:
        raise RecsysError("a file cannot be read", where=path, got=error.strerror) from None
    if got != expected:
        raise RecsysError(
            "a file is damaged: its checksum differs", where=path, expected=expected, got=got
        )


def _parse(text: str) -> dict[str, str]:
    listed = {}
    if not text.endswith("\n"):
        raise ValueError("cut short")
    for line in text[:-1].split("\n"):  # splitlines would take other bytes for a line's end
        digest, name = line[:64], line[66:]
        if line[64:66] != "  " or not name or set(digest) - set("0123456789abcdef"):
            raise ValueError(line)
        listed[name] = digest
    return listed
