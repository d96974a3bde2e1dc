"""File names from names of columns and features, which may be anything."""

import hashlib
import re
from collections.abc import Iterable

MAX_STEM = 80  # characters; file systems allow 255 bytes, a suffix included
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]*")
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")  # names of devices on Windows


def file_stems(names: Iterable[str]) -> dict[str, str]:
    """A different file name, without suffix, for each name.

    A plain name (letters, digits, `_ . @ -`) is kept. Any other gets what is plain of it and a hash
    of the whole, as does a name that differs from an earlier one only in case.

    >>> file_stems(["user_id", "../evil"])
    {'user_id': 'user_id', '../evil': 'evil-2d6afc71'}
    """
    stems: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        stem = name if _is_plain(name) and name.casefold() not in taken else _hashed(name)
        taken.add(stem.casefold())
        stems[name] = stem
    return stems


def _is_plain(name: str) -> bool:
    return (
        len(name) <= MAX_STEM
        and _PLAIN.fullmatch(name) is not None
        and _RESERVED.fullmatch(name) is None
    )


def _hashed(name: str) -> str:
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    plain = re.sub(r"[^A-Za-z0-9_]+", "_", name).strip("_")[:40]
    return f"{plain}-{digest}" if plain else f"column-{digest}"
