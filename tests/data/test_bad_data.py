"""Data that do not keep the contract: one error that names the feature, the value and the place."""

import os
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.data.config import DataConfig
from recsys.data.loader import BatchLoader
from recsys.errors import RecsysError
from recsys.schema import Feature
from tests.tiny_dataset import write_dataset

FEATURES = [
    Feature(name="item", kind="categorical", column="item", cardinality=10),
    Feature(name="history", kind="sequence", column="history", cardinality=10),
    Feature(name="price", kind="numerical", column="price"),
]


def good_table(rows: int = 20) -> pa.Table:
    """Row i has item i % 10 and the history [i % 10, 3]."""
    items = np.arange(rows, dtype=np.int32) % 10
    pairs = np.stack([items, np.full(rows, 3, np.int32)], axis=1).reshape(-1)
    return pa.table(
        {
            "item": items,
            "history": pa.ListArray.from_arrays(np.arange(rows + 1, dtype=np.int32) * 2, pairs),
            "price": np.zeros(rows, np.float32),
            "label": (items % 2).astype(np.int8),
            "user": items.astype(np.int64),
        }
    )


def replace(table: pa.Table, name: str, column: pa.Array) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, column)


def with_value(table: pa.Table, name: str, row: int, value) -> pa.Table:
    values = table[name].to_pylist()
    values[row] = value
    return replace(table, name, pa.array(values, table[name].type))


def load(folder, *tables, batches: bool = True):
    """Writes the tables as files in row groups of 4, opens the loader and reads it all."""
    schema = write_dataset(folder, FEATURES, {"train": tables}, row_group_rows=4, group="user")
    return loader_of(folder, schema, batches)


def loader_of(folder, schema, batches: bool = True):
    config = DataConfig(path=folder, global_batch_size=8)
    loader = BatchLoader(folder, schema, "train", config, seed=0, shuffle=True)
    if batches:
        list(loader)
    return loader


def message_of(error) -> str:
    return str(error.value)


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("item", 10, ["'item'", "0 to 9", "10"]),
        ("item", -1, ["'item'", "0 to 9", "-1"]),
        ("history", [1, 10], ["'history'", "0 to 9", "10"]),
        ("history", [-7], ["'history'", "0 to 9", "-7"]),
        ("price", float("nan"), ["'price'", "finite", "nan"]),
        ("price", float("-inf"), ["'price'", "finite", "-inf"]),
        ("label", 2, ["'label'", "0 or 1", "2"]),
        ("item", None, ["'item'", "missing value"]),
        ("history", None, ["'history'", "missing value"]),
        ("history", [1, None], ["'history'", "missing value"]),
        ("price", None, ["'price'", "missing value"]),
        ("label", None, ["'label'", "missing value"]),
        ("user", None, ["'user'", "missing value"]),
    ],
)
def test_a_bad_value_is_named_with_its_file_and_row(tmp_path, column, value, words):
    with pytest.raises(RecsysError) as error:
        load(tmp_path, good_table(), with_value(good_table(), column, 14, value))
    for word in [*words, "train/part-00001.parquet, row 14"]:
        assert word in message_of(error)


@pytest.mark.parametrize(
    ("column", "type_", "words"),
    [
        ("item", pa.int64(), ["'item'", "int32", "int64"]),
        ("item", pa.string(), ["'item'", "int32", "string"]),
        ("history", pa.list_(pa.int64()), ["'history'", "list<int32>", "int64"]),
        ("price", pa.float64(), ["'price'", "float", "double"]),
        ("label", pa.string(), ["'label'", "integer, float or bool", "string"]),
        ("user", pa.string(), ["'user'", "integer", "string"]),
    ],
)
def test_a_column_of_another_type_is_named_with_both_types(tmp_path, column, type_, words):
    table = good_table()
    with pytest.raises(RecsysError) as error:
        load(tmp_path, replace(table, column, table[column].cast(type_)), batches=False)
    for word in [*words, "train/part-00000.parquet"]:
        assert word in message_of(error)


@pytest.mark.parametrize("type_", [pa.bool_(), pa.int64(), pa.float32(), pa.float64()])
def test_a_label_of_zeros_and_ones_may_have_any_number_type(tmp_path, type_):
    table = good_table()
    load(tmp_path, replace(table, "label", table["label"].cast(type_)))


def test_lists_with_64_bit_offsets_are_read_too(tmp_path):
    table = good_table()
    load(tmp_path, replace(table, "history", table["history"].cast(pa.large_list(pa.int32()))))


def test_a_missing_column_is_named_with_the_nearest_one(tmp_path):
    names = ["items" if name == "item" else name for name in good_table().column_names]
    with pytest.raises(RecsysError, match="no column 'item'") as error:
        load(tmp_path, good_table().rename_columns(names), batches=False)
    assert "did you mean 'items'?" in message_of(error)


@pytest.fixture
def good(tmp_path):
    """A good data set of two files: its folder, its schema, its second file."""
    schema = write_dataset(
        tmp_path, FEATURES, {"train": [good_table()] * 2}, row_group_rows=4, group="user"
    )
    return tmp_path, schema, tmp_path / "train/part-00001.parquet"


@pytest.mark.parametrize("content", [b"", b"label\titem\n", None])
def test_a_truncated_file_or_one_that_is_not_parquet_is_named(good, content):
    folder, schema, path = good
    path.write_bytes(path.read_bytes()[:-100] if content is None else content)
    with pytest.raises(RecsysError, match=r"truncated, damaged or not Parquet\n.*part-00001"):
        loader_of(folder, schema)


def test_a_file_that_is_not_there_is_named(good):
    folder, schema, path = good
    path.unlink()
    with pytest.raises(RecsysError, match=r"not found\n.*part-00001"):
        loader_of(folder, schema)


def test_a_file_that_vanishes_or_shrinks_after_opening_is_named(good):
    folder, schema, path = good
    content = path.read_bytes()
    loader = loader_of(folder, schema, batches=False)
    path.write_bytes(content[: len(content) // 4])
    with pytest.raises(RecsysError, match=r"truncated, damaged or not Parquet\n.*part-00001"):
        list(loader)
    path.unlink()
    with pytest.raises(RecsysError, match=r"not found\n.*part-00001"):
        list(loader)


def test_a_file_with_another_number_of_rows_is_named_with_both_numbers(good):
    folder, schema, path = good
    pq.write_table(good_table(19), path)
    with pytest.raises(RecsysError, match=r"(?s)part-00001.*expected: 20\n.*got: +19"):
        loader_of(folder, schema)


def test_a_split_without_rows_is_an_error(tmp_path):
    with pytest.raises(RecsysError, match="'train' has no rows"):
        load(tmp_path, good_table(0))


@contextmanager
def without_permission(path):
    """Root may read everything, so it has to stop being root for a while."""
    path.chmod(0)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_a_file_without_permission_is_named(good):
    folder, schema, path = good
    with (
        without_permission(path),
        pytest.raises(RecsysError, match=r"no permission to read.*\n.*part-0000"),
    ):
        loader_of(folder, schema)
