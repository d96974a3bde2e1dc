"""SHA256SUMS: one file, in coreutils' format, that says whether a folder is whole."""

import hashlib
from pathlib import Path

from recsys.errors import RecsysError

CHECKSUM_FILE = "SHA256SUMS"


def sha256_of(path: Path) -> str:
    """The hexadecimal sha256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_checksums(folder: Path) -> None:
    """Writes SHA256SUMS for every file below the folder (`sha256sum -c SHA256SUMS` checks it)."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != CHECKSUM_FILE)
    lines = [f"{sha256_of(path)}  {path.relative_to(folder).as_posix()}\n" for path in files]
    (folder / CHECKSUM_FILE).write_text("".join(lines))


def verify_checksums(folder: Path) -> None:
    """Refuses a folder in which a file is missing, added, or differs by one bit."""
    try:
        listed = _parse((folder / CHECKSUM_FILE).read_bytes().decode())
    except (FileNotFoundError, NotADirectoryError):
        raise RecsysError(f"{folder} is not whole: it has no {CHECKSUM_FILE}") from None
    except ValueError:
        raise RecsysError("the checksum file is damaged", where=folder / CHECKSUM_FILE) from None
    present = {
        p.relative_to(folder).as_posix()
        for p in folder.rglob("*")
        if p.is_file() and p.name != CHECKSUM_FILE
    }
    for name in sorted(present ^ set(listed)):
        problem = "is missing" if name in listed else "does not belong here"
        raise RecsysError(f"{name} {problem}", where=folder, expected=f"as {CHECKSUM_FILE} lists")
    for name, expected in listed.items():
        got = sha256_of(folder / name)
        if got != expected:
            raise RecsysError(
                "a file is damaged: its checksum differs",
                where=folder / name,
                expected=expected,
                got=got,
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
