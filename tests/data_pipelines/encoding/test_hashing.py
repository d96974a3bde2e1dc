"""The hash never changes: the expected numbers come from plain Python integers."""

import polars as pl
import pytest

from data_pipelines.encoding.hashing import hash64_text, hash_distinct

MASK = 2**64 - 1


def hash64_by_hand(text):
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = (value ^ byte) * 0x100000001B3 & MASK
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 & MASK
    value = (value ^ value >> 27) * 0x94D049BB133111EB & MASK
    return value ^ value >> 31


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", 0xF52A15E9A9B5E89B), ("a", 0x02C0BDBF481420F8), ("05db9164", 0xC5C40D792F1EDE57)],
)
def test_the_test_vectors(text, expected):
    assert hash64_text(pl.Series([text]))[0] == expected


def test_equals_the_definition_for_texts_of_any_length_and_alphabet():
    texts = ["", "ü", "日本", "x" * 40, "05db9164", "0", "0"]
    assert hash64_text(pl.Series(texts)).tolist() == [hash64_by_hand(t) for t in texts]


def test_a_slice_of_a_column_hashes_as_its_own_values():
    texts = pl.Series(["aa", "b", "", None, "long enough to leave the inline form"])
    assert (hash64_text(texts)[1:] == hash64_text(texts[1:])).all()


def test_hashing_distinct_values_only_changes_nothing():
    texts = pl.Series(["b", None, "a", "b", "", "a"])
    assert (hash_distinct(texts) == hash64_text(texts)).all()
