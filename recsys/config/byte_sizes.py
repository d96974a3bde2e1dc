"""Sizes such as 80GB and 64GiB: parsed from the command line and configs, and formatted."""

import re

from recsys.errors import RecsysError

PREFIXES = "KMGT"
UNITS = {
    "B": 1,
    **{f"{prefix}B": 1000**power for power, prefix in enumerate(PREFIXES, start=1)},
    **{f"{prefix}IB": 1024**power for power, prefix in enumerate(PREFIXES, start=1)},
}


def parse_bytes(text: str, where: str) -> int:
    """A number and a unit → bytes. KB, MB, GB, TB are powers of 1000, KiB … TiB of 1024.

    Stricter than pydantic's ByteSize, which ignores text after the unit.

    >>> parse_bytes("1.5 KiB", "--hbm")
    1536
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", text)
    unit = match[2].upper() if match else ""
    if match is None or unit not in UNITS or float(match[1]) == 0:
        raise RecsysError(
            f"{text!r} is not a valid size",
            where=where,
            expected="a number above 0 and a unit, such as 80GB, 512MB or 64GiB",
            got=text,
            fix=f"{match[1]}GB?" if match and not unit and float(match[1]) else None,
        )
    return round(float(match[1]) * UNITS[unit])


def format_bytes(count: float) -> str:
    """Bytes in three digits and a unit of 1,000: 23.9 GB, 512 B."""
    for unit, size in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if abs(count) >= size:
            digits = ".3g" if abs(count) < 100 * size else ",.0f"
            return f"{count / size:{digits}} {unit}"
    return f"{count:.0f} B"
