"""Names and wildcards in recipes and configs, where a name may itself look like a wildcard."""

import fnmatch
from collections.abc import Collection, Iterable


def is_wildcard(pattern: str) -> bool:
    """True if `pattern` may match other names than itself."""
    return not {"*", "?", "["}.isdisjoint(pattern)


def names_matching(pattern: str, names: Collection[str]) -> list[str]:
    """The name that equals `pattern`, else those that it matches as a wildcard, in their order.

    >>> names_matching("cat[0]", ["cat0", "cat[0]"])
    ['cat[0]']
    """
    return [pattern] if pattern in names else [n for n in names if fnmatch.fnmatchcase(n, pattern)]


def all_matching(patterns: Iterable[str], names: Collection[str]) -> set[str]:
    """The names that any of the patterns matches."""
    return {name for pattern in patterns for name in names_matching(pattern, names)}


def matching_key(name: str, patterns: Collection[str]) -> str | None:
    """The pattern that applies to `name`: itself, else the first wildcard that matches.

    >>> matching_key("C3", ["C*", "C?", "C3"])
    'C3'
    """
    if name in patterns:
        return name
    return next((p for p in patterns if fnmatch.fnmatchcase(name, p)), None)
