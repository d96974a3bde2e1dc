"""Names and wildcards, where a name may look like a wildcard."""

import pytest

from recsys.config.name_patterns import all_matching, names_matching

NAMES = ["cat0", "cat[0]", "a*b", "axb"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("cat[0]", ["cat[0]"]),
        ("cat[[]0]", ["cat[0]"]),
        ("a*b", ["a*b"]),
        ("a?b", ["a*b", "axb"]),
        ("cat*", ["cat0", "cat[0]"]),
        ("b", []),
    ],
)
def test_an_exact_name_comes_before_a_wildcard(pattern, expected):
    assert names_matching(pattern, NAMES) == expected


def test_patterns_together_mean_each_name_once():
    assert all_matching(["cat*", "cat0", "a*b"], NAMES) == {"cat0", "cat[0]", "a*b"}
