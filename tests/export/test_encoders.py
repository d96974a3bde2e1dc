"""Raw values → ids and floats, against values worked out by hand."""

import math

import numpy as np
import polars as pl
import pytest

from data_pipelines.encoding.hashing import hash64_text
from recsys.errors import RecsysError
from recsys.schema import (
    CriteoBucket,
    Feature,
    HashEncoding,
    Keep,
    Log,
    QuantileBuckets,
    Standardize,
    VocabularyEncoding,
)
from recsys.serving.encoders import RawEncoder, hash_texts

VOCABULARY = "vocabularies/v.parquet"


def encode(feature, values, root=None, dtype=None):
    raw = pl.DataFrame({"x": pl.Series(values, dtype=dtype)})
    return RawEncoder([feature], root).encode(raw)["f"].to_list()


def numerical(transform):
    return Feature(name="f", kind="numerical", column="x", transform=transform)


def with_vocabulary(root, values, kind="categorical", **fields):
    (root / "vocabularies").mkdir()
    table = pl.DataFrame({"value": values, "id": range(1, len(values) + 1)})
    table.write_parquet(root / VOCABULARY)
    return Feature(
        name="f",
        kind=kind,
        column="x",
        encoding=VocabularyEncoding(file=VOCABULARY),
        cardinality=len(values) + 1,
        **fields,
    )


@pytest.mark.parametrize(
    ("transform", "expected"),
    [
        (Keep(missing=-1), [-3.0, 0.5, 7.0, -1.0]),
        (Log(missing=2), [0.0, math.log(1.5), math.log(8), 2.0]),
        (Standardize(mean=1, std=2), [-2.0, -0.25, 3.0, 0.0]),
    ],
)
def test_numbers(transform, expected):
    got = encode(numerical(transform), [-3.0, 0.5, 7.0, None])
    assert got == pytest.approx(expected, rel=1e-6)


def test_criteo_buckets(tmp_path):
    # floor(ln(x)²) above 2: ln(3)² = 1.2, ln(100)² = 21.2; the integer part below
    feature = with_vocabulary(tmp_path, [1, 21, -2, 0, 2], transform=CriteoBucket())
    assert encode(feature, [3.0, 100.0, -2.7, 0.9, 2.0, None, 50.0], tmp_path) == [
        1,
        2,
        3,
        4,
        5,
        0,
        0,
    ]


def test_criteo_buckets_shifted_apart(tmp_path):
    feature = with_vocabulary(tmp_path, [1, 2, 3, 4], transform=CriteoBucket(shift=2))
    assert encode(feature, [1.0, 2.0, 3.0, 4.0, 5.0], tmp_path) == [1, 2, 3, 3, 4]


def test_criteo_buckets_with_a_value_for_missing_and_absent_tokens(tmp_path):
    transform = CriteoBucket(missing=-1, absent=(21,))
    feature = with_vocabulary(tmp_path, [-1, 21], transform=transform)
    assert encode(feature, [None, 100.0], tmp_path) == [1, 0]


def test_quantile_buckets_count_the_edges_at_or_below(tmp_path):
    transform = QuantileBuckets(edges=(1.0, 2.0))
    feature = with_vocabulary(tmp_path, [2, 1, 0], transform=transform)
    assert encode(feature, [0.0, 1.0, 1.5, 2.0, None], tmp_path) == [3, 2, 2, 1, 0]


def test_unseen_and_missing_texts_are_row_0(tmp_path):
    feature = with_vocabulary(tmp_path, ["red", "größe"])
    assert encode(feature, ["größe", "red", "RED", "", None], tmp_path) == [2, 1, 0, 0, 0]


def test_sequences_keep_their_last_values(tmp_path):
    feature = with_vocabulary(
        tmp_path, ["a", "b", "c"], kind="sequence", separator="|", max_length=2
    )
    values = ["a|b|c", "c", None, "", "a|?", "|b"]
    assert encode(feature, values, tmp_path) == [[2, 3], [3], [], [0], [1, 0], [0, 2]]


def test_sequences_may_all_be_empty(tmp_path):
    feature = with_vocabulary(tmp_path, ["a"], kind="sequence", separator="|")
    assert encode(feature, [None, None], tmp_path, dtype=pl.String) == [[], []]


def test_hashed_texts():
    hashes = [0xF52A15E9A9B5E89B, 0x02C0BDBF481420F8, 0xC5C40D792F1EDE57]
    assert hash_texts(pl.Series(["", "a", "05db9164"])).tolist() == hashes
    feature = Feature(
        name="f", kind="categorical", column="x", encoding=HashEncoding(), cardinality=101
    )
    expected = [1 + hashes[1] % 100, 1 + hashes[2] % 100, 0]
    assert encode(feature, ["a", "05db9164", None]) == expected


def test_the_hash_is_the_pipelines():
    rng = np.random.default_rng(0)
    texts = ["".join(map(chr, rng.integers(32, 0x2FF, n))) for n in rng.integers(0, 30, 500)]
    series = pl.Series([*texts, None])
    np.testing.assert_array_equal(hash_texts(series), hash64_text(series))


def test_a_value_that_is_no_number_is_named():
    with pytest.raises(RecsysError, match=r"(?s)f: a raw value cannot be read.*'x'.*a number"):
        encode(numerical(Keep()), ["1.5", "many"])
