"""Tables joined to the rows by key: `join:` in a recipe."""

import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml

import data_pipelines
from data_pipelines import encode, read_raw
from data_pipelines.sources.keyed_table import KeyedTable
from recsys.cli.dataset_text import describe_statistics
from recsys.errors import RecsysError
from recsys.schema import load_schema
from tests.data_pipelines.events.event_logs import Log

USERS = {"user": ["1", "2", "3", "4"], "age": [18, 30, 45, 60], "city": ["A", "B", None, "A"]}
RECIPE = {
    "label": {"column": "label"},
    "join": [{"files": "users*", "key": "user"}],
    "categorical": {"columns": ["user", "city"]},
    "numerical": {"columns": ["age"]},
    "min_count": 1,
    "split": {"method": "by_time"},
}


class Tables:
    """Rows of (label, user, …) and tables beside them, in one folder."""

    def __init__(self, folder):
        self.folder = folder / "raw"
        self.folder.mkdir()
        self.out = folder / "out"
        users = ["1", "2", "3", "1", "2", "3", "1", "2", "3", "1"]
        self.write("rows.csv", label=[0, 1] * 5, user=users, item=[f"i{n % 4}" for n in range(10)])
        self.write("users.csv", **USERS)

    def write(self, name, **columns):
        pl.DataFrame(columns).write_csv(self.folder / name)

    def prepare(self, raw=None, **changes):
        recipe = self.folder.parent / "recipe.yaml"
        recipe.write_text(yaml.safe_dump(RECIPE | changes))
        self.schema = data_pipelines.prepare(str(recipe), raw or [self.folder], self.out)
        return self.schema

    def raw(self, raw=None):
        return pl.concat(read_raw(self.schema, raw or [self.folder]))


@pytest.fixture
def tables(tmp_path):
    return Tables(tmp_path)


def test_columns_of_a_table_are_added_to_the_rows_by_key(tables):
    tables.prepare()
    raw = tables.raw()
    assert raw["age"].to_list() == [18, 30, 45] * 3 + [18]
    assert raw["city"].to_list() == ["A", "B", None] * 3 + ["A"]
    train = pl.read_parquet(tables.out / "train/part-00000.parquet")
    assert train["age"].to_list() == [18, 30, 45, 18, 30, 45, 18, 30]


def test_rows_and_tables_are_told_apart_by_name_in_any_order_of_raw(tables):
    expected = tables.prepare().fingerprint()
    shutil.rmtree(tables.out)
    files = [tables.folder / "users.csv", tables.folder / "rows.csv"]
    assert tables.prepare(raw=files).fingerprint() == expected


def test_encoded_raw_rows_equal_the_rows_that_were_written(tables):
    schema = tables.prepare()
    encoded = encode(schema, tables.out, tables.raw())
    written = pl.concat(pl.read_parquet(tables.out / s / "*.parquet") for s in schema.splits)
    assert encoded.select(written.columns).equals(written)


def test_rows_with_the_joined_columns_need_no_table(tables):
    tables.prepare()
    joined = tables.raw()
    joined.select("label", "user", "age", "city").write_csv(tables.folder.parent / "scored.csv")
    assert tables.raw([tables.folder.parent / "scored.csv"]).equals(joined)


def test_keys_without_a_match_are_counted_kept_and_printed(tables):
    tables.write("users.csv", user=["1", "2", "8", "9"], age=[1, 2, 8, 9], city=["A"] * 4)
    schema = tables.prepare()
    (counts,) = load_schema(tables.out).joins
    assert (counts.rows, counts.unmatched, counts.table_keys, counts.unused) == (10, 3, 4, 2)
    (warning,) = [w for w in schema.warnings if w.startswith("users.csv")]
    assert "3 of 10 rows (30.0%) have no match by user, such as '3'" in warning
    assert "keys of the table: '1', '2', '8'" in warning
    printed = "\n".join(map(str, describe_statistics(schema)))
    assert "joined users.csv by user: 70.00% of 10 rows; 2 of its 4 keys are in no row" in printed


def test_rows_without_a_key_are_counted_separately(tables):
    users = ["1", None, "3", "1", None, "3", "1", "2", "3", "1"]
    tables.write("rows.csv", label=[0, 1] * 5, user=users)
    (counts,) = tables.prepare().joins
    assert (counts.missing, counts.unmatched) == (2, 0)
    assert tables.raw()["age"].to_list()[1] is None


def test_keys_in_another_form_are_refused_with_examples_of_both(tables):
    tables.write("users.csv", user=["0001", "0002"], age=[1, 2], city=["A", "B"])
    with pytest.raises(RecsysError) as error:
        tables.prepare()
    assert "no key of the rows is in the table" in str(error.value)
    assert "'1', '2', '3'" in str(error.value)
    assert "'0001', '0002'" in str(error.value)
    assert not tables.out.exists()


@pytest.mark.parametrize("file", ["users.csv", "users.parquet"])
def test_whole_numbers_join_however_they_are_written(tables, file):
    (tables.folder / "users.csv").unlink()
    users = pl.DataFrame(USERS).with_columns(pl.col("user").cast(pl.Float64))
    if file.endswith("csv"):
        users.write_csv(tables.folder / file)
    else:
        users.write_parquet(tables.folder / file)
    (counts,) = tables.prepare().joins
    assert counts.unmatched == 0
    assert tables.raw()["age"].to_list()[:3] == [18, 30, 45]


def test_of_a_duplicate_key_the_first_row_is_used_with_a_warning(tables):
    tables.write("users.csv", user=["1", "2", "3", "1"], age=[1, 2, 3, 99], city=["A"] * 4)
    warnings = tables.prepare().warnings
    assert "users.csv: 1 rows have the user of an earlier row, which is used instead" in warnings
    assert tables.raw()["age"].to_list()[:3] == [1, 2, 3]


def test_tables_join_by_several_keys_and_by_columns_of_earlier_tables(tables):
    tables.write("cities.csv", place=["A", "B"], country=["x", "y"])
    tables.write("prices.csv", user=["1", "2", "2"], item=["i0", "i1", "i0"], price=[1, 2, 9])
    schema = tables.prepare(
        join=[
            {"files": "users*", "key": "user", "prefix": "u_"},
            {"files": "cities*", "key": "u_city", "table_key": "place"},
            {"files": "prices*", "key": ["user", "item"], "columns": ["price"]},
        ],
        categorical={"columns": ["country", "price"]},
        numerical={"columns": ["u_age"]},
    )
    raw = tables.raw()
    assert raw["country"].to_list()[:4] == ["x", "y", None, "x"]
    assert raw["price"].to_list()[:2] == ["1", "2"]
    assert [join.key for join in schema.joins] == [("user",), ("u_city",), ("user", "item")]


def test_a_list_column_of_a_table_is_a_sequence(tables):
    (tables.folder / "users.csv").unlink()
    users = pl.DataFrame({"user": ["1", "2"], "tags": [["a", "b"], ["c"]]})
    users.write_parquet(tables.folder / "users.parquet")
    tables.prepare(
        sequence={"columns": ["tags"]}, numerical={"columns": []}, categorical={"columns": ["user"]}
    )
    tags = pl.read_parquet(tables.out / "train/part-00000.parquet")["tags"]
    assert [len(items) for items in tags.to_list()] == [2, 1, 0, 2, 1, 0, 2, 1]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"join": [{"files": "visitors*", "key": "user"}]},
            ["not found among the raw files", "visitors*"],
        ),
        ({"join": [{"files": "users*", "key": "usr"}]}, ["'usr'", "did you mean 'user'"]),
        ({"join": [{"files": "users*", "key": "user", "columns": "agee"}]}, ["'agee'", "'age'"]),
        ({"join": [{"files": "users*", "key": "user", "table_key": "u"}]}, ["'u'", "table_key"]),
        ({"join": [{"files": "users*", "key": []}]}, ["join.0.key", "at least 1"]),
        ({"file": {"separator": {}}}, ["file.separator"]),
        ({"file": {"format": []}}, ["file.format"]),
        ({"join": [{"files": "*", "key": "user"}]}, ["the file with the rows is missing"]),
        ({"join": [{"files": "users*"}]}, ["key is missing", "join.0"]),
        ({"join": [{"files": "users*", "key": "user"}] * 2}, ["'age'", "join.prefix"]),
        (
            {"numerical": {"columns": ["user", "age"]}, "categorical": {}},
            ["is numerical and the key"],
        ),
    ],
)
def test_what_cannot_be_joined_is_refused(tables, changes, words):
    with pytest.raises(RecsysError) as error:
        tables.prepare(**changes)
    assert all(word in str(error.value) for word in words), str(error.value)


def test_a_table_larger_than_memory_is_refused_with_its_size(tables, monkeypatch):
    monkeypatch.setattr("recsys.io.memory.available_bytes", lambda: 10)
    with pytest.raises(RecsysError) as error:
        tables.prepare()
    assert "a joined table would not fit into memory" in str(error.value)
    assert "users.csv" in str(error.value)


def test_only_the_columns_that_features_use_are_kept_in_memory(tables, monkeypatch):
    kept = []
    plain = KeyedTable.__init__
    monkeypatch.setattr(
        KeyedTable, "__init__", lambda *args: (kept.append(args[4].columns), plain(*args))[1]
    )
    tables.prepare(numerical={"columns": ["age"]}, categorical={"columns": ["user"]})
    assert kept == [["age"]]


def test_event_logs_join_user_tables(tmp_path):
    events = [(f"u{u}", f"a{u}{i}", i) for u in range(4) for i in range(6)]
    log = Log(tmp_path, events)
    users = tmp_path / "users.csv"
    pl.DataFrame({"user": [f"u{u}" for u in range(4)], "age": ["7", "8", "9", "7"]}).write_csv(
        users
    )
    schema = log.prepare(
        "join=[{files: ['users*'], key: user, file: {}}]",
        "categorical.columns=[item, category, age]",
        raw=[log.csv, users],
    )
    assert schema.joins[0].unmatched == 0
    rows = pl.concat(read_raw(schema, [log.csv, users]))
    ages = rows.group_by("user").agg(pl.col("age").unique()).sort("user")["age"].to_list()
    assert ages == [["7"], ["8"], ["9"], ["7"]]
    encoded = encode(schema, log.out, rows)
    assert encoded["age"].value_counts().sort("age")["count"].sum() == len(rows)


def test_a_column_joined_by_the_item_must_be_an_item_feature(tmp_path):
    events = [(f"u{u}", f"a{u}{i}", i) for u in range(4) for i in range(6)]
    log = Log(tmp_path, events)
    items = tmp_path / "items.csv"
    names = sorted({event[1] for event in events})
    pl.DataFrame({"item": names, "brand": [n[-1] for n in names]}).write_csv(items)
    join = "join=[{files: ['items*'], key: item, file: {}}]"
    with pytest.raises(RecsysError, match="joined by the item, but is not an item feature"):
        log.prepare(join, "categorical.columns=[item, brand]", raw=[log.csv, items])
    schema = log.prepare(join, "events.item_features=[brand]", raw=[log.csv, items])
    rows = pl.concat(read_raw(schema, [log.csv, items]))
    # drawn negatives have the brand of the item that was drawn
    assert (rows["brand"] == rows["item"].str.slice(-1)).all()


def test_recboles_three_files_become_one_dataset(tmp_path):
    generator = np.random.default_rng(0)
    users, items, rows = 20, 15, 300
    names = {"inter": ["user_id:token", "item_id:token", "rating:float", "timestamp:float"]}
    interactions = [
        generator.integers(1, users + 1, rows),
        generator.integers(1, items + 1, rows),
        generator.integers(1, 6, rows).astype(float),
        generator.permutation(rows) + 1e9,
    ]
    numbers = np.arange(1, users + 1)
    user_columns = {
        "user_id:token": numbers,
        "age:token": numbers % 3,
        "gender:token": np.where(numbers % 2, "M", "F"),
        "occupation:token": numbers % 4,
        "zip_code:token": numbers,
    }
    item_numbers = np.arange(1, items)  # the last one is not in the table
    item_columns = {
        "item_id:token": item_numbers,
        "movie_title:token_seq": [f"title {i}" for i in item_numbers],
        "release_year:token": 1990 + item_numbers % 5,
        "genre:token_seq": [["Drama", "Drama War", "Comedy"][i % 3] for i in item_numbers],
    }
    for suffix, columns in (
        ("inter", dict(zip(names["inter"], interactions, strict=True))),
        ("user", user_columns),
        ("item", item_columns),
    ):
        pl.DataFrame(columns).write_csv(tmp_path / f"ml.{suffix}", separator="\t")
    raw = [tmp_path / f"ml.{suffix}" for suffix in ("inter", "user", "item")]
    recipe = Path(__file__).parents[3] / "configs/recipes/recbole.yaml"
    schema = data_pipelines.prepare(str(recipe), raw, tmp_path / "out")
    assert schema.feature("genre:token_seq").cardinality == 4
    by_user, by_item = schema.joins
    assert by_user.unmatched == 0
    assert by_item.unmatched == (interactions[1] == items).sum()
    assert sum(schema.dropped_rows.values()) == (interactions[2] == 3).sum()


def test_built_in_datasets_join_tables_of_the_user_too(tmp_path):
    movielens = tmp_path / "ml"
    movielens.mkdir()
    ratings = [f"{1 + n % 3}::{1 + n % 4}::{5 - 4 * (n % 2)}::{n}" for n in range(30)]
    users = [f"{u}::F::25::1::0000{u}" for u in (1, 2, 3)]
    movies = [f"{m}::Title {m}::Drama|War" for m in (1, 2, 3, 4)]
    for name, lines in (("ratings", ratings), ("users", users), ("movies", movies)):
        (movielens / f"{name}.dat").write_text("\n".join(lines) + "\n")
    extra = tmp_path / "directors.csv"
    extra.write_text("movie,director\n1,x\n2,y\n3,x\n4,z\n")
    schema = data_pipelines.prepare(
        "movielens_1m",
        [movielens, extra],
        tmp_path / "out",
        [
            "join=[{files: directors.csv, key: movie, file: {}}]",
            "categorical.columns=[user, movie, gender, director]",
            "min_count=1",
        ],
    )
    assert schema.joins[0].unmatched == 0
    raw = pl.concat(read_raw(schema, [movielens, extra]))
    assert raw["director"].to_list()[:4] == ["x", "y", "x", "z"]
    assert raw["gender"].null_count() == 0


def test_rows_of_parquet_join_a_table_of_text(tables):
    (tables.folder / "rows.csv").unlink()
    rows = pl.DataFrame({"label": [0, 1] * 5, "user": [n % 3 + 1 for n in range(10)]})
    rows.write_parquet(tables.folder / "rows.parquet")
    (counts,) = tables.prepare(file={"format": "parquet"}).joins
    assert counts.unmatched == 0
