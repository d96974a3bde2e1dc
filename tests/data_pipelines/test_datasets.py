"""The built-in datasets, on rows written here and on real rows."""

import collections
import gzip
import math

import numpy as np
import polars as pl
import pytest

from data_pipelines import builtin_datasets, encode, prepare, read_raw
from recsys.schema import CriteoBucket

REAL_CRITEO = "criteo_kaggle/dac_sample_137k.tsv.gz"


def read_split(out, name):
    return pl.read_parquet(out / name / "*.parquet")


def parts(schema, out):
    return pl.concat([read_split(out, name) for name in schema.splits])


X4_RULE = "numerical.transform={kind: criteo_bucket, missing: 0, absent: [0]}"


def assert_encodes_like_prepare(schema, out, raw):
    """Our encoder on the raw rows gives the rows of all splits."""
    encoded = pl.concat([encode(schema, out, chunk) for chunk in read_raw(schema, raw)])
    columns = encoded.columns
    prepared = parts(schema, out)
    assert encoded.sort(columns).equals(prepared.sort(columns))


def criteo_row(label, first_integer, first_category):
    fields = [first_integer, *["1"] * 12, first_category, *["68fd1e64"] * 25]
    return "\t".join(fields if label is None else [label, *fields])


@pytest.fixture
def criteo(tmp_path):
    path = tmp_path / "train.txt"
    rows = [("1", "0", "aa"), ("0", "", "aa"), ("0", "-1", "bb"), ("1", "30", "")] * 5
    path.write_text("\n".join(criteo_row(*row) for row in rows) + "\n")
    return path


def test_criteo_integers_are_tokens_and_0_is_one_of_them(criteo, tmp_path):
    schema = prepare("criteo_kaggle", [criteo], tmp_path / "out")
    assert [f.name for f in schema.features][:2] == ["I1", "I2"]
    assert {f.kind for f in schema.features} == {"categorical"}
    vocabulary = pl.read_parquet(tmp_path / "out/vocabularies/I1.parquet")
    assert set(vocabulary["value"]) == {-1, 0, 13}  # ln(30)² = 11.6, and 2 to keep it apart


def test_with_the_x4_rule_missing_and_0_have_no_token(criteo, tmp_path):
    schema = prepare("criteo_x4_002", [criteo], tmp_path / "out")
    assert schema.feature("I1").transform == CriteoBucket(missing=0, absent=(0,))
    assert schema.feature("I1").cardinality == 3
    assert {name: s.rows for name, s in schema.splits.items()} == {
        "train": 16,
        "valid": 2,
        "test": 2,
    }


def test_an_override_makes_the_kaggle_recipe_follow_the_x4_rule(criteo, tmp_path):
    schema = prepare("criteo_kaggle", [criteo], tmp_path / "out", [X4_RULE])
    assert schema.feature("I1").transform == CriteoBucket(missing=0, absent=(0,))


def test_criteo_integers_can_stay_numbers(criteo, tmp_path):
    schema = prepare("criteo_kaggle", [criteo], tmp_path / "out", ["numerical.transform=log"])
    assert len(schema.numerical) == 13
    assert read_split(tmp_path / "out", "train")["I2"].to_list() == pytest.approx([0.6931472] * 16)


def test_an_unlabeled_criteo_file_is_encoded_but_not_prepared(criteo, tmp_path):
    schema = prepare("criteo_kaggle", [criteo], tmp_path / "out")
    unlabelled = tmp_path / "test.txt"
    unlabelled.write_text(criteo_row(None, "0", "aa") + "\n")
    (chunk,) = read_raw(schema, [unlabelled])
    assert encode(schema, tmp_path / "out", chunk)["C1"].to_list() == [1]
    with pytest.raises(Exception, match="label column 'label' not found"):
        prepare("criteo_kaggle", [unlabelled], tmp_path / "other")


def test_a_folder_of_days_is_read_in_natural_order(tmp_path):
    days = tmp_path / "days"
    days.mkdir()
    for day, label in ((10, "1"), (2, "0"), (0, "0")):
        row = criteo_row(label, str(day), f"d{day}")
        (days / f"day_{day}.gz").write_bytes(gzip.compress(((row + "\n") * 10).encode()))
    schema = prepare("criteo_1tb", [days], tmp_path / "out", ["split.fractions=[0.5, 0.2, 0.3]"])
    assert read_split(tmp_path / "out", "train")["label"].to_list() == [0] * 15
    assert schema.split("test").positives == 9


def test_the_benchmark_recipes_have_the_published_settings():
    settings = {n: (r.min_count, r.split) for n, r in builtin_datasets().items() if "_x4_" in n}
    assert {name: count for name, (count, _) in settings.items()} == {
        "criteo_x4_001": 10,
        "criteo_x4_002": 2,
        "avazu_x4_001": 2,
        "avazu_x4_002": 1,
    }
    for _, split in settings.values():
        assert (split.method, split.seed, split.folds) == ("stratified_folds", 2018, 10)


AVAZU_HEADER = (
    "id,click,hour,C1,banner_pos,site_id,site_domain,site_category,app_id,app_domain,"
    "app_category,device_id,device_ip,device_model,device_type,device_conn_type,"
    "C14,C15,C16,C17,C18,C19,C20,C21"
)


def test_avazu_makes_hour_weekday_and_weekend_from_the_time(tmp_path):
    hours = ["14102100", "14102523", "14102600", "14102705"]  # Tuesday, Saturday, Sunday, Monday
    rows = [f"{i},{i % 2},{hour}" + ",x" * 21 for i, hour in enumerate(hours)]
    path = tmp_path / "train.csv"
    path.write_text("\n".join([AVAZU_HEADER, *rows]) + "\n")
    split = "split={method: by_time, column: time, fractions: [0.5, 0.25, 0.25]}"
    schema = prepare("avazu", [path], tmp_path / "out", [split, "min_count=1"])
    assert len(schema.features) == 24
    assert "id" not in [f.name for f in schema.features]
    raw = pl.concat(read_raw(schema, [path]))
    assert raw["hour"].to_list() == ["00", "23", "00", "05"]
    assert raw["weekday"].to_list() == ["2", "6", "0", "1"]
    assert raw["weekend"].to_list() == ["0", "1", "1", "0"]
    assert read_split(tmp_path / "out", "test")["label"].to_list() == [1]


def test_avazu_names_a_row_without_a_time(tmp_path):
    path = tmp_path / "train.csv"
    path.write_text(f"{AVAZU_HEADER}\n1,0,14102100{',x' * 21}\n2,0,soon{',x' * 21}\n")
    with pytest.raises(Exception, match=r"data row 2\n.*YYMMDDHH\n.*'soon'"):
        prepare("avazu", [path], tmp_path / "out")


@pytest.fixture
def movielens(tmp_path):
    folder = tmp_path / "ml-1m"
    folder.mkdir()
    ratings = [(1, 1, 5), (1, 2, 3), (2, 1, 1), (2, 2, 4), (1, 3, 2), (3, 1, 4)]
    text = "".join(f"{u}::{m}::{r}::97830{i}\n" for i, (u, m, r) in enumerate(ratings))
    (folder / "ratings.dat").write_text(text)
    (folder / "users.dat").write_text("1::F::1::10::48067\n2::M::56::16::70072\n")
    movies = "1::Café::Animation|Comedy\n2::B::Comedy\n3::C::Drama|Comedy|War\n"
    (folder / "movies.dat").write_bytes(movies.encode("latin-1"))
    return folder


def test_movielens_joins_users_and_movies_and_drops_ratings_of_3(movielens, tmp_path):
    schema = prepare(
        "movielens_1m",
        [movielens],
        tmp_path / "out",
        ["min_count=1", "split={method: by_time, fractions: [0.6, 0.2, 0.2]}"],
    )
    train = read_split(tmp_path / "out", "train")
    assert train["label"].to_list() == [1, 0, 1]
    assert train["genres"].to_list() == [[2, 1], [2, 1], [1]]
    assert train["group_id"].n_unique() == 2
    assert schema.group == "group_id"
    last = read_split(tmp_path / "out", "test")  # a user that users.dat does not know
    assert last.select("user", "gender", "label").row(0) == (0, 0, 1)
    assert_encodes_like_prepare(schema, tmp_path / "out", [movielens])


def test_movielens_needs_its_three_files(movielens, tmp_path):
    (movielens / "movies.dat").unlink()
    with pytest.raises(Exception, match="movies file not found"):
        prepare("movielens_1m", [movielens], tmp_path / "out")


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "raw", "rows"),
    [
        ("criteo_kaggle", REAL_CRITEO, 137_139),
        ("criteo_1tb", "criteo_1tb/day_0_first10k.tsv.gz", 10_000),
        ("avazu", "avazu/avazu_43k.csv.gz", 43_261),
        ("movielens_1m", "movielens_1m", None),
    ],
)
def test_real_rows_are_prepared_and_encoded_equally(real_data, tmp_path, name, raw, rows):
    schema = prepare(name, [real_data / raw], tmp_path / "out")
    assert rows in (None, sum(split.rows for split in schema.splits.values()))
    for feature in schema.sparse:
        ids = parts(schema, tmp_path / "out")[feature.name]
        ids = ids.explode() if feature.kind == "sequence" else ids
        assert 0 <= ids.min() <= ids.max() < feature.cardinality
    if name != "criteo_kaggle":
        assert_encodes_like_prepare(schema, tmp_path / "out", [real_data / raw])


@pytest.mark.slow
@pytest.mark.real_data
def test_real_criteo_ids_equal_those_counted_by_hand(real_data, tmp_path):
    """One integer by the x4 rule and one category, counted in plain Python."""
    prepare("criteo_kaggle", [real_data / REAL_CRITEO], tmp_path / "out", [X4_RULE])
    with gzip.open(real_data / REAL_CRITEO, "rt") as file:
        rows = [line.rstrip("\n").split("\t") for line in file]
    train = np.sort(np.random.default_rng(1).permutation(len(rows))[: int(0.8 * len(rows))])

    def token(text):
        value = int(text or 0)
        return math.floor(math.log(value) ** 2) if value > 2 else value

    columns = {"I1": [token(rows[i][1]) for i in train], "C1": [rows[i][14] for i in train]}
    for name, values in columns.items():
        counts = collections.Counter(v for v in values if v)
        ranked = sorted((-count, v) for v, count in counts.items() if count >= 2)
        ids = {value: place for place, (_, value) in enumerate(ranked, start=1)}
        prepared = read_split(tmp_path / "out", "train")[name]
        assert prepared.to_list() == [ids.get(value, 0) for value in values]
