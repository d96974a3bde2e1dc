"""The table of Arrow types: what a value becomes in each role, or that it is refused.

docs/data_contract.md shows the same table; a test compares the two.
"""

import datetime as dt
from decimal import Decimal
from typing import NamedTuple

import pyarrow as pa

REFUSED = "refused"
MOMENT = dt.datetime(2020, 1, 2, 3, 4, 5, 500_000)
SECONDS = 1577934245.5


class Case(NamedTuple):
    """A type, one of its values, and what it becomes as text (category, group, label), number."""

    type: pa.DataType
    value: object
    token: str | None
    number: float | str | None


def timestamp(unit: str, zone: str | None = None) -> Case:
    value = MOMENT.replace(microsecond=0) if unit == "s" else MOMENT
    token = "2020-01-02 03:04:05" + ("" if unit == "s" else ".5")
    seconds = SECONDS if unit != "s" else 1577934245.0
    if zone:
        value = value.replace(tzinfo=dt.UTC)
    return Case(pa.timestamp(unit, zone), value, token + ("Z" if zone else ""), seconds)


CASES = [
    *(Case(t, 7, "7", 7.0) for t in (pa.int8(), pa.int16(), pa.int32(), pa.int64())),
    *(Case(t, 7, "7", 7.0) for t in (pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())),
    Case(pa.int64(), -(2**62), str(-(2**62)), float(-(2**62))),
    Case(pa.float32(), 7.0, "7", 7.0),
    Case(pa.float64(), 7.0, "7", 7.0),
    Case(pa.float64(), -0.0, "0", 0.0),
    Case(pa.float64(), 7.25, "7.25", 7.25),
    Case(pa.float32(), 0.5, "0.5", 0.5),
    Case(pa.float64(), 1e30, "1e+30", 1e30),
    Case(pa.float64(), float("nan"), None, None),
    Case(pa.decimal128(10, 2), Decimal("7.00"), "7", 7.0),
    Case(pa.decimal128(10, 2), Decimal("7.50"), "7.5", 7.5),
    Case(pa.decimal128(10, 0), Decimal(700), "700", 700.0),
    Case(pa.bool_(), True, "1", 1.0),
    Case(pa.string(), "7", "7", 7.0),
    Case(pa.string(), "007", "007", 7.0),
    Case(pa.string(), "", None, None),
    Case(pa.large_string(), "7", "7", 7.0),
    Case(pa.string_view(), "7", "7", 7.0),
    Case(pa.dictionary(pa.int8(), pa.string()), "7", "7", 7.0),
    Case(pa.dictionary(pa.int8(), pa.int64()), 7, "7", 7.0),
    Case(pa.date32(), dt.date(2020, 1, 2), "2020-01-02", 1577923200.0),
    *(timestamp(unit) for unit in ("s", "ms", "us", "ns")),
    timestamp("us", "UTC"),
    timestamp("ns", "Asia/Tokyo"),
    Case(pa.time64("us"), dt.time(3, 4, 5), "03:04:05", REFUSED),
    Case(pa.time64("us"), dt.time(3, 4, 5, 500_000), "03:04:05.5", REFUSED),
    Case(pa.binary(), b"seven", "seven", REFUSED),
    Case(pa.null(), None, None, None),
    Case(pa.duration("s"), dt.timedelta(seconds=7), REFUSED, REFUSED),
    Case(pa.struct([("a", pa.int32())]), {"a": 7}, REFUSED, REFUSED),
    Case(pa.map_(pa.string(), pa.int32()), [("a", 7)], REFUSED, REFUSED),
    Case(pa.list_(pa.int64()), [7, 8], REFUSED, REFUSED),
    Case(pa.list_(pa.int64(), 2), [7, 8], REFUSED, REFUSED),
]


def documented_table() -> str:
    """The cases as the Markdown table of docs/data_contract.md."""
    lines = [
        "| Arrow type | value | token: category, item, group, label | number |",
        "|---" * 4 + "|",
    ]
    for case in CASES:
        cells = (case.type, repr(case.value), _cell(case.token), _cell(case.number))
        lines.append("| " + " | ".join(f"`{c}`" if c != "missing" else c for c in cells) + " |")
    return "\n".join(lines).replace("`refused`", REFUSED)


def _cell(value: object) -> str:
    return "missing" if value is None else str(value)
