"""How the page writes numbers: fixed digits that align, units, and a dash for unknown ones."""

from recsys.config.byte_sizes import format_bytes

MISSING = "–"


def fixed(value: float | None, digits: int = 4) -> str:
    return MISSING if value is None else f"{value:.{digits}f}"


def count(value: float | None, digits: int = 0) -> str:
    return MISSING if value is None else f"{value:,.{digits}f}"


def percent(value: float | None, digits: int = 1) -> str:
    return MISSING if value is None else f"{100 * value:.{digits}f} %"


def interval(bounds: tuple[float, float] | None, digits: int = 4) -> str:
    return MISSING if bounds is None else f"{bounds[0]:.{digits}f} – {bounds[1]:.{digits}f}"


def sentence(words: str) -> str:
    """With a capital first letter, the others as they are."""
    return words[:1].upper() + words[1:]


def size(num_bytes: float | None) -> str:
    """Bytes in a readable unit: 12.3 MB."""
    return MISSING if num_bytes is None else format_bytes(num_bytes)


def short(value: float) -> str:
    """A tick or a rate in few characters: 1.5 M, 12 k, 0.25."""
    for unit, scale in (("M", 1e6), ("k", 1e3)):
        if abs(value) >= scale:
            return f"{value / scale:.4g} {unit}"
    return f"{value:.4g}"
