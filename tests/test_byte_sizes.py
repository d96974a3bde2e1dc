"""Sizes as people write them."""

import pytest

from recsys.config.byte_sizes import format_bytes, parse_bytes
from recsys.errors import RecsysError


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("80GB", 80_000_000_000),
        ("512MB", 512_000_000),
        ("64GiB", 68_719_476_736),
        ("1.5 tb", 1_500_000_000_000),
        ("7B", 7),
    ],
)
def test_a_number_and_a_unit_are_bytes(text, count):
    assert parse_bytes(text, "--hbm") == count


@pytest.mark.parametrize("text", ["80", "GB", "0GB", "-1GB", "80 elephants", "", "1e3GB"])
def test_anything_else_is_refused_with_an_example(text):
    with pytest.raises(RecsysError, match=r"(?s)is not a valid size.*--hbm.*80GB, 512MB or 64GiB"):
        parse_bytes(text, "--hbm")


def test_a_bare_number_gets_a_hint():
    with pytest.raises(RecsysError, match=r"80GB\?"):
        parse_bytes("80", "--hbm")


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (4_260, "4.26 kB"),
        (23_890_000_000, "23.9 GB"),
        (68_000_000, "68 MB"),
    ],
)
def test_bytes_are_written_in_three_digits(count, text):
    assert format_bytes(count) == text
