"""The dataset contract, on a table small enough to check by eye."""

import gzip
import hashlib

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

from data_pipelines import encode, prepare, read_raw
from data_pipelines.encoding.hashing import hash64_text
from recsys.schema import load_schema


def test_ids_follow_descending_count_in_train_rows_ties_by_value(shop):
    shop.prepare()
    assert shop.vocabulary("colour") == [("red", 1, 3), ("blue", 2, 2), ("green", 3, 1)]
    assert shop.column("colour") == [1, 1, 1, 2, 2, 3]


def test_a_value_that_only_other_splits_have_is_id_0(shop):
    shop.prepare()
    assert shop.column("colour", "valid") == [1, 0]
    assert shop.column("colour", "test") == [3, 0]


def test_values_rarer_than_min_count_are_id_0(shop):
    schema = shop.prepare("min_count=2")
    assert schema.feature("colour").cardinality == 3
    assert shop.column("colour") == [1, 1, 1, 2, 2, 0]


def test_min_count_and_encoding_can_differ_by_feature(shop):
    schema = shop.prepare(
        "per_feature.colour.min_count=3", "per_feature.tags.encoding={kind: hash, cardinality: 6}"
    )
    assert [schema.feature(name).cardinality for name in ("colour", "tags")] == [2, 6]


def test_sequences_are_lists_of_ids_with_0_for_missing_items(shop):
    shop.prepare()
    assert shop.vocabulary("tags") == [("a", 1, 4), ("b", 2, 3), ("c", 3, 1)]
    assert shop.column("tags") == [[1, 2], [1], [], [2, 1, 3], [1, 0], [2]]
    assert shop.column("tags", "test") == [[2, 2], [1, 2, 3, 0]]


def test_long_sequences_keep_the_last_items(shop):
    shop.prepare("sequence.max_length=2")
    assert shop.column("tags", "test") == [[2, 2], [3, 0]]


def test_numbers_are_kept_and_missing_ones_are_0(shop):
    shop.prepare()
    assert shop.column("price") == [1.0, 2.0, 3.0, 4.0, 0.0, 6.0]


def test_standardize_is_fitted_on_train_rows(shop):
    schema = shop.prepare("numerical.transform=standardize")
    present = np.array([1.0, 2.0, 3.0, 4.0, 6.0])
    transform = schema.feature("price").transform
    np.testing.assert_allclose([transform.mean, transform.std], [present.mean(), present.std()])
    np.testing.assert_allclose(
        shop.column("price", "test"), (np.array([9, 10]) - 3.2) / present.std(), rtol=1e-6
    )


def test_quantile_buckets_become_a_categorical_feature(shop):
    schema = shop.prepare("numerical.transform={kind: quantile_buckets, num_buckets: 2}")
    feature = schema.feature("price")
    assert (feature.kind, feature.transform.edges) == ("categorical", (3.0,))
    assert shop.vocabulary("price") == [(1, 1, 3), (0, 2, 2)]
    assert shop.column("price") == [2, 2, 1, 1, 0, 1]


def test_hash_encoding_needs_no_vocabulary(shop):
    schema = shop.prepare("encoding={kind: hash, cardinality: 1001}")
    hashes = hash64_text(pl.Series(["red", "black"])) % np.uint64(1000) + np.uint64(1)
    assert shop.column("colour", "valid") == hashes.tolist()
    assert shop.column("colour", "test")[1] == 0
    assert schema.feature("colour").cardinality == 1001
    assert not (shop.out / "vocabularies").exists()


def test_features_can_share_a_vocabulary(shop, table):
    recent = ["red", "blue", None, "black", "red", "red", "red", "red", "red", "red"]
    table.with_columns(recent=pl.Series(recent)).write_csv(shop.csv)
    schema = shop.prepare("categorical.columns=[colour, recent]", "shared_vocabulary.recent=colour")
    assert shop.vocabulary("colour") == [
        *(("red", 1, 6), ("blue", 2, 3), ("black", 3, 1), ("green", 4, 1)),
    ]
    assert shop.column("recent") == [1, 2, 0, 3, 1, 1]
    assert schema.feature("recent").encoding.file == schema.feature("colour").encoding.file


def test_group_ids_are_equal_hashes_in_all_splits(shop):
    schema = shop.prepare()
    assert schema.group == "group_id"
    expected = hash64_text(pl.Series(["7", "8", "9"])) >> np.uint64(1)
    assert shop.column("group_id", "valid") == expected[:2].tolist()
    assert shop.column("group_id", "test") == expected[[2, 0]].tolist()


def test_column_types_are_those_of_the_contract(shop):
    shop.prepare()
    schema = pq.read_schema(shop.out / "train/part-00000.parquet")
    types = {field.name: str(field.type) for field in schema}
    assert types == {
        "price": "float",
        "colour": "int32",
        "tags": "list<element: int32 not null>",
        "label": "int8",
        "group_id": "int64",
    }
    assert not any(field.nullable for field in schema)


def test_the_schema_counts_rows_and_positives_and_knows_each_files_checksum(shop):
    written = shop.prepare()
    schema = load_schema(shop.out)
    assert schema == written
    assert {n: (s.rows, s.positives) for n, s in schema.splits.items()} == {
        "train": (6, 3),
        "valid": (2, 1),
        "test": (2, 1),
    }
    for split in schema.splits.values():
        for file in split.files:
            content = (shop.out / file.path).read_bytes()
            assert hashlib.sha256(content).hexdigest() == file.sha256


def test_the_same_input_gives_the_same_bytes_however_it_is_read(shop, monkeypatch):
    first = shop.prepare()
    monkeypatch.setattr("data_pipelines.reading.text.BLOCK_BYTES", 50)
    second = shop.prepare(out=shop.folder / "again")
    assert first == second
    for path in ("train/part-00000.parquet", "vocabularies/colour.parquet"):
        assert (shop.out / path).read_bytes() == (shop.folder / "again" / path).read_bytes()


def test_long_splits_are_cut_into_row_groups_and_files_of_fixed_size(shop, monkeypatch):
    monkeypatch.setattr("data_pipelines.writing.ROW_GROUP_ROWS", 2)
    monkeypatch.setattr("data_pipelines.writing.ROWS_PER_FILE", 4)
    monkeypatch.setattr("data_pipelines.reading.text.BLOCK_BYTES", 50)
    schema = shop.prepare()
    files = schema.split("train").files
    assert [f.rows for f in files] == [4, 2]
    assert pq.ParquetFile(shop.out / files[0].path).num_row_groups == 2
    assert shop.column("colour") == [1, 1, 1, 2, 2, 3]


def test_gzip_and_parquet_give_the_same_data(shop, table):
    plain = shop.prepare()
    packed = shop.folder / "rows.csv.gz"
    packed.write_bytes(gzip.compress(shop.csv.read_bytes()))
    parquet = shop.folder / "rows.parquet"
    table.with_columns(pl.col("tags").str.split("|"), pl.col("user").cast(pl.Int64)).write_parquet(
        parquet
    )
    zipped = shop.prepare(raw=[packed], out=shop.folder / "zipped")
    typed = shop.prepare("file.format=parquet", raw=[parquet], out=shop.folder / "typed")
    assert zipped.splits == plain.splits == typed.splits


def test_quoted_fields_may_contain_separators_quotes_and_newlines(shop, table, monkeypatch):
    names = ['re,d"', "bl\nue", *["x"] * 8]
    table.with_columns(colour=pl.Series(names)).write_csv(shop.csv, quote_style="always")
    monkeypatch.setattr("data_pipelines.reading.text.BLOCK_BYTES", 20)
    shop.prepare()
    assert shop.vocabulary("colour") == [("x", 1, 4), ("bl\nue", 2, 1), ('re,d"', 3, 1)]


def test_a_table_without_a_header_gets_its_names_from_the_recipe(shop, table):
    expected = shop.prepare()
    table.write_csv(shop.csv, include_header=False, separator="\t")
    overrides = [
        "file={header: false, separator: '\\t', columns: [bought, price, colour, tags, user]}",
    ]
    schema = shop.prepare(*overrides, out=shop.folder / "bare")
    assert schema.splits == expected.splits


def test_wildcards_name_columns(shop):
    schema = shop.prepare("categorical.columns=['c*', 'us?r']")
    assert [f.name for f in schema.features] == ["price", "colour", "user", "tags"]


@pytest.mark.parametrize(
    ("split", "train", "test"),
    [
        ("{method: random, seed: 3, fractions: [0.6, 0.2, 0.2]}", 6, 2),
        ("{method: stratified_folds, folds: 5}", 6, 2),
        ("{method: stratified_folds_0_20, folds: 5}", 6, 2),
        ("{method: by_time, column: price, boundaries: [5, 8]}", 5, 3),
    ],
)
def test_splits_by_rule(shop, table, split, train, test):
    table.with_columns(pl.col("price").fill_null(5)).write_csv(shop.csv)
    schema = shop.prepare(f"split={split}")
    assert (schema.split("train").rows, schema.split("test").rows) == (
        (train, test) if "price" not in split else (4, 3)
    )


def test_by_group_splits_by_the_group_column(shop):
    schema = shop.prepare("split={method: by_group, seed: 7, fractions: [0.4, 0.3, 0.3]}")
    groups = [set(shop.column("group_id", split)) for split in schema.splits]
    assert [len(g) for g in groups] == [1, 1, 1]
    assert len(set.union(*groups)) == 3


def test_splits_by_file_name(shop, table):
    raw = []
    for name, rows in (("train", table[:6]), ("valid", table[6:8]), ("test", table[8:])):
        raw.append(shop.folder / f"{name}.csv")
        rows.write_csv(raw[-1])
    expected = shop.prepare()
    schema = shop.prepare("split.method=given_files", raw=raw[::-1], out=shop.folder / "given")
    assert schema.splits == expected.splits


def test_dates_are_times_too(shop, table):
    days = [f"2024-01-{day:02d}" for day in (9, 1, 2, 3, 4, 5, 6, 7, 8, 10)]
    table.with_columns(day=pl.Series(days)).write_csv(shop.csv)
    shop.prepare("split={method: by_time, column: day, fractions: [0.8, 0.1, 0.1]}")
    assert (shop.column("price", "valid"), shop.column("price", "test")) == ([1.0], [10.0])


def test_a_label_rule_by_threshold_drops_values_between(shop):
    schema = shop.prepare(
        "label={column: price, rule: {kind: threshold, positive: 6, negative: 2}}",
        "numerical.columns=[]",
        "split.fractions=[0.4, 0.3, 0.3]",
        raw=[_without_row(shop, 4)],
    )
    assert schema.split("train").rows + schema.split("valid").rows + schema.split("test").rows == 7
    assert shop.column("label") == [0, 0]


def _without_row(shop, row):
    lines = shop.csv.read_text().splitlines(keepends=True)
    shop.csv.write_text("".join(lines[: row + 1] + lines[row + 2 :]))
    return shop.csv


def test_a_label_rule_by_values(shop, table):
    words = pl.Series([{1: "yes", 0: "no"}[label] for label in table["bought"]])
    table.with_columns(bought=words).write_csv(shop.csv)
    shop.prepare("label.rule={kind: one_of, positive: ['yes'], negative: ['no']}")
    assert shop.column("label") == [1, 0, 1, 0, 0, 1]


def test_encode_repeats_what_prepare_did(shop):
    schema = shop.prepare("numerical.transform=standardize", "sequence.max_length=2")
    chunks = list(read_raw(schema, [shop.csv]))
    encoded = encode(schema, shop.out, pl.concat(chunks))
    parts = [pl.read_parquet(shop.out / split / "*.parquet") for split in schema.splits]
    assert encoded.equals(pl.concat(parts))


def test_read_raw_gives_canonical_columns_with_or_without_labels(shop, table):
    schema = shop.prepare()
    labelled = pl.concat(read_raw(schema, [shop.csv]))
    assert labelled.schema == {
        "price": pl.Float64,
        "colour": pl.String,
        "tags": pl.String,
        "user": pl.String,
        "label": pl.Int8,
    }
    table.drop("bought").write_csv(shop.csv)
    unlabelled = pl.concat(read_raw(schema, [shop.csv]))
    assert unlabelled.equals(labelled.drop("label"))
    assert "label" not in encode(schema, shop.out, unlabelled).columns


def test_progress_is_reported_by_stage(shop):
    calls = []
    prepare(str(shop.recipe), [shop.csv], shop.out, progress=lambda *call: calls.append(call))
    assert calls == [("read", 10, None), ("fit", 10, 10), ("write", 10, 10)]


def test_overwrite_replaces_a_dataset(shop):
    shop.prepare()
    schema = prepare(str(shop.recipe), [shop.csv], shop.out, ["min_count=2"], overwrite=True)
    assert load_schema(shop.out) == schema
    assert sorted(p.name for p in shop.folder.iterdir()) == ["out", "rows.csv", "shop.yaml"]
