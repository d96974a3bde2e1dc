"""Every primitive of a rule against values worked out by hand."""

import numpy as np
import pytest
from pydantic import ValidationError

from recsys.errors import RecsysError
from recsys.lookup_spec import (
    Band,
    Concat,
    FloorDivide,
    Hash,
    Linear,
    LinearByRow,
    LookedUp,
    Mask,
    Modulo,
    Pad,
    Product,
    Relu,
    Remap,
    Rule,
    Sum,
    TableLookup,
    identity,
    looked_up,
)
from recsys.serving.decoder import Decoder, hash_rows

# table t: row r is (r, 10 r); table u: row r is (1, -r)
TABLES = {
    "t": np.array([[r, 10 * r] for r in range(6)], np.float32),
    "u": np.array([[1, -r] for r in range(6)], np.float32),
    "narrow": np.array([[2], [3]], np.float32),
}
TENSORS = {
    "matrix": np.array([[1, 0, 2], [0, 1, 1]], np.float32),
    "mask": np.array([0, 1], np.float32),
    "rows": np.array([3, -1, 5], np.int16),
}
FIRST, SECOND = looked_up(2)
BOTH = (TableLookup(table="t"), TableLookup(table="u"))


def decode(vector, *ids, lookups=BOTH):
    decoder = Decoder(Rule(lookups=lookups, vector=vector), TABLES, TENSORS, "the rule of f")
    return decoder.vectors(np.array(ids, np.int64)).tolist()


def rows_of(ids, *steps, **fields):
    look = TableLookup(table="t", steps=steps, **fields)
    decoder = Decoder(Rule(lookups=(look,), vector=FIRST), TABLES, TENSORS, "the rule of f")
    return decoder.rows(look, np.array(ids, np.int64)).tolist()


def test_steps_make_a_row_of_an_id():
    assert rows_of([0, 7, 2**40 + 7], Modulo(divisor=5)) == [0, 2, (2**40 + 7) % 5]
    assert rows_of([0, 7, 2**53 + 1], FloorDivide(divisor=2)) == [0, 3, 2**52]
    assert rows_of([7, 23], FloorDivide(divisor=4), Modulo(divisor=3)) == [1, 2]
    assert rows_of([3, 4, 6, 7], Band(first=4, end=7)) == [-1, 0, 2, -1]
    assert rows_of([0, 1, 2], Remap(rows="rows")) == [3, -1, 5]


def test_no_row_stays_no_row_and_may_have_a_row_of_its_own():
    steps = Band(first=4, end=7), Remap(rows="rows"), Modulo(divisor=2)
    assert rows_of([3, 4, 5, 6, 7], *steps) == [-1, 1, -1, 1, -1]
    assert rows_of([3, 4, 5, 6, 7], *steps, missing_row=4) == [4, 1, 4, 1, 4]


def test_a_missing_row_is_a_vector_of_zeros():
    look = TableLookup(table="t", steps=(Band(first=1, end=3),))
    assert decode(FIRST, 0, 2, lookups=(look,)) == [[0, 0], [1, 10]]


def test_the_hash_is_the_published_splitmix64():
    # seeded with 0 its first outputs are 0xE220A8397B1DCDAF and 0x6E789E6AA1B965F4
    expected = 0xE220A8397B1DCDAF >> 1, 0x6E789E6AA1B965F4 >> 1
    assert [int(hash_rows(np.array([0]), s, 2**63)[0]) for s in (0, 1)] == list(expected)
    step = Hash(salt="0x0000000000000001", num_rows=5)
    assert rows_of([0], step) == [expected[1] % 5]
    largest = Hash(salt="0xffffffffffffffff", num_rows=7)  # salt + 1 = 0: the id is mixed alone
    assert rows_of([0, 3], largest) == [0, int(hash_rows(np.array([3]), 2**64 - 1, 7)[0])]


def test_vectors_become_one():
    assert decode(FIRST, 2) == [[2, 20]]
    assert decode(Sum(of=(FIRST, SECOND, SECOND)), 2, 3) == [[4, 16], [5, 24]]
    assert decode(Product(of=(FIRST, SECOND)), 2, 3) == [[2, -40], [3, -90]]
    assert decode(Concat(of=(SECOND, FIRST)), 2) == [[1, -2, 2, 20]]
    assert decode(Linear(of=FIRST, matrix="matrix"), 1) == [[1, 10, 12]]
    assert decode(Mask(of=FIRST, by="mask"), 4) == [[0, 40]]
    assert decode(Relu(of=SECOND), 3) == [[1, 0]]
    assert decode(Pad(of=FIRST, dim=4), 1) == [[1, 10, 0, 0]]
    assert decode(Pad(of=FIRST, dim=4, columns=(3, 1)), 1) == [[0, 10, 0, 1]]
    assert decode(Product(of=(FIRST, Sum(of=(SECOND, SECOND)))), 2) == [[4, -80]]


def test_one_column_counts_for_all():
    lookups = BOTH[0], TableLookup(table="narrow")
    assert decode(Product(of=(FIRST, SECOND)), 1, lookups=lookups) == [[3, 30]]


def test_weights_of_each_ids_own():
    # the weights (1, 10, 2, -2): M = [[1, 10]] is one row, then b = (2, -2)
    lookups = TableLookup(table="narrow"), BOTH[0], BOTH[1]
    weights = Concat(of=(LookedUp(index=1), Sum(of=(LookedUp(index=2), LookedUp(index=2)))))
    path = LinearByRow(of=FIRST, weights=weights)
    assert decode(path, 1, lookups=lookups) == [[3 * 1 + 2, 3 * 10 - 2]]


def test_many_ids_are_decoded_in_blocks(monkeypatch):
    monkeypatch.setattr("recsys.serving.decoder.IDS_AT_ONCE", 2)
    assert decode(FIRST, 1, 2, 3, 4, 5) == [[r, 10 * r] for r in range(1, 6)]
    assert decode(FIRST) == []


def test_a_rule_that_does_not_fit_is_refused():
    def refuses(rule, match):
        with pytest.raises(RecsysError, match=match):
            Decoder(rule, TABLES, TENSORS, "the rule of f").vectors(np.arange(6))

    lookups = (TableLookup(table="t"),)
    refuses(identity("nowhere"), r"(?s)names missing tables.*rule of f.*nowhere")
    refuses(Rule(lookups=lookups, vector=Linear(of=FIRST, matrix="m")), "(?s)missing tables.*m")
    refuses(Rule(lookups=lookups, vector=Mask(of=FIRST, by="matrix")), "does not fit its tables")
    refuses(identity("narrow"), "does not fit its tables")  # ids beyond its two rows
    wide = Rule(lookups=lookups, vector=Pad(of=FIRST, dim=4, columns=(0, 4)))
    refuses(wide, "does not fit its tables")
    with pytest.raises(ValidationError, match="lookups 0 to 0"):
        Rule(lookups=lookups, vector=Sum(of=(FIRST, Relu(of=SECOND))))


def test_a_hash_that_misses_its_test_vectors_is_refused():
    step = Hash(salt="0x0000000000000000", num_rows=5, test_vectors=((0, 2), (9, 9)))
    rule = Rule(lookups=(TableLookup(table="t", steps=(step,)),), vector=FIRST)
    with pytest.raises(RecsysError, match=r"(?s)hash differs.*(0 → row 2|9 → row 9)"):
        Decoder(rule, TABLES, {}, "the rule of f")


def test_a_rule_survives_json():
    lookups = (TableLookup(table="t", steps=(Band(first=0, end=2), Remap(rows="rows"))),)
    vector = Sum(of=(Pad(of=FIRST, dim=3), Linear(of=Relu(of=FIRST), matrix="matrix")))
    rule = Rule(lookups=lookups, vector=vector)
    assert Rule.model_validate_json(rule.model_dump_json()) == rule
    assert rule.tensors() == {"rows", "matrix"}
