"""The built-in event logs, item tables, and errors in logs; real rows too."""

import bz2
import gzip
import json

import polars as pl
import pytest

from data_pipelines import builtin_datasets, check_leakage, encode, prepare, read_raw
from data_pipelines.rules.files import ItemTable
from data_pipelines.sources.item_tables import read_item_table
from recsys.errors import RecsysError
from recsys.serving.encoders import RawEncoder
from tests.data_pipelines.events.event_logs import Log, plain_samples

TAOBAO = [("u", "pv"), ("u", "cart"), ("u", "pv"), ("u", "pv"), ("u", "pv")]


def rows_of(out, *splits):
    return pl.concat([pl.read_parquet(out / split / "*.parquet") for split in splits])


def test_taobaos_clicks_are_targets_and_histories(tmp_path):
    lines = [
        f"{user}{n % 3},{n}{n % 3},{n % 4},{action},{1511544070 + n}"
        for n, (user, action) in enumerate(TAOBAO * 8)
    ]
    (tmp_path / "UserBehavior.csv").write_text("\n".join(lines) + "\n")
    schema = prepare("taobao", [tmp_path], tmp_path / "out")
    assert [f.name for f in schema.features] == [
        *("item", "category", "item_history", "category_history")
    ]
    assert schema.group == "group_id"
    assert sum(split.positives for split in schema.splits.values()) == 32 - 3


def test_dares_presets_have_the_published_settings():
    for name in ("taobao_dare", "tmall_dare"):
        recipe = builtin_datasets()[name]
        events = recipe.events
        assert (events.min_events, events.max_length, recipe.min_count) == (210, 200, 1)
        assert (events.targets.every, events.targets.per_user) == (5, 19)
        assert (events.negatives.per_positive, events.negatives.sampling) == (2, "popularity")
        assert recipe.split.method == "last_two_items"


def test_the_rows_of_dare_on_a_small_log(tmp_path):
    """19 train clicks, a valid one, a test one, 2 negatives for each; 209 clicks are too few."""
    clicks = [(u, n) for u, length in ((1, 250), (2, 210), (3, 209)) for n in range(length)]
    lines = [f"{u},{u * 1000 + n},{n % 9},pv,{n // 50}" for u, n in clicks]
    (tmp_path / "log.csv").write_text("\n".join(lines) + "\n")
    schema = prepare("taobao_dare", [tmp_path / "log.csv"], tmp_path / "out")
    sizes = {name: (s.positives, s.rows) for name, s in schema.splits.items()}
    assert sizes == {"train": (38, 114), "valid": (2, 6), "test": (2, 6)}
    raw = pl.concat(read_raw(schema, [tmp_path / "log.csv"])).filter(pl.col("label") == 1)
    of_first = raw.filter(pl.col("user") == "1")["item"].cast(pl.Int64) - 1000
    assert sorted(250 - of_first) == [1, 2, *range(3, 94, 5)]
    history = raw.filter(pl.col("item") == "1249")["item_history"][0].split("|")
    assert history == [str(1000 + n) for n in range(49, 249)]


def test_tmalls_days_are_ties_that_the_files_order_breaks(tmp_path):
    header = "user_id,item_id,cat_id,seller_id,brand_id,time_stamp,action_type\n"
    lines = [f"{u},{u}{n},{n % 3},1,2,{1110 - n // 30},0" for u in (1, 2) for n in range(220)]
    (tmp_path / "log.csv").write_text(header + "\n".join(lines) + "\n")
    schema = prepare("tmall_dare", [tmp_path / "log.csv"], tmp_path / "out")
    raw = pl.concat(read_raw(schema, [tmp_path / "log.csv"])).filter(pl.col("label") == 1)
    last = raw.filter(pl.col("item_id") == "129")  # the last row of the first day, the last in time
    assert last["item_id_history"][0].endswith("|127|128")


def test_the_rows_of_din_on_electronics(tmp_path):
    """From the second review on a target with one negative; the last is test."""
    reviews = [
        {"reviewerID": f"A{u}", "asin": f"B{(u * 3 + n) % 17}", "overall": 5.0, "unixReviewTime": n}
        for u in range(100)
        for n in range(5)
    ]
    extra = {"reviewText": 'said "{so}"', "helpful": [1, 2]}
    text = "\n".join(json.dumps({**review, **extra}) for review in reviews)
    (tmp_path / "reviews_Electronics_5.json").write_text(text + "\n")
    meta = [
        f"{{'asin': 'B{i}', 'title': \"It's\", 'categories': [['Electronics', 'x{i}'], "
        f"['Electronics', \"Kids' {i % 4}\"]], 'price': 1.5}}"
        for i in range(17)
    ]
    (tmp_path / "meta_Electronics.json").write_text("\n".join(meta) + "\n")
    schema = prepare("amazon_electronics_din", [tmp_path], tmp_path / "out")
    assert sum(split.rows for split in schema.splits.values()) == 100 * 4 * 2
    assert schema.split("test").rows == 200
    raw = pl.concat(read_raw(schema, [tmp_path]))
    assert set(raw["category"]) == {f"Kids' {i}" for i in range(4)}


def test_reviews_and_items_as_tables(tmp_path):
    reviews = [f"A{u}\tB{(u + 2 * n) % 20}\t5.0\t{n}" for u in range(20) for n in range(5)]
    header = "reviewerID\tasin\toverall\tunixReviewTime\n"
    (tmp_path / "reviews.tsv").write_text(header + "\n".join(reviews) + "\n")
    items = "".join(f"B{i}\tc{i % 3}\n" for i in range(20))
    (tmp_path / "items.tsv").write_text("item\tcategory\n" + items)
    schema = prepare("amazon_reviews", [tmp_path], tmp_path / "out")
    assert schema.feature("category_history").cardinality == 4
    raw = pl.concat(read_raw(schema, [tmp_path])).filter(pl.col("label") == 1)
    first = raw.filter((pl.col("user") == "A0") & (pl.col("item") == "B4"))
    assert first.select("category", "item_history").row(0) == ("c1", "B0|B2")


def test_metadata_in_json_of_later_years(tmp_path):
    path = tmp_path / "meta.json"
    lines = [
        {"category": ["Grocery", "Tea & Coffee"], "asin": "1", "also_buy": ["2", "3"]},
        {"category": [], "asin": "2"},
    ]
    path.write_text("\n".join(map(json.dumps, lines)) + "\n")
    table = read_item_table(path, ItemTable())
    assert table.select("item", "category").rows() == [("1", "Tea & Coffee"), ("2", None)]
    assert table["attributes"].to_list() == ["Grocery|Tea & Coffee", None]


def test_item_lists_with_attributes(tmp_path):
    lists = [[str(u), *(str((u + 2 * n) % 30) for n in range(6))] for u in range(30)]
    (tmp_path / "log.txt").write_text("\n".join(map(" ".join, lists)) + "\n")
    table = {str(i): [100 + i % 3, 200 + i % 5] for i in range(1, 30)}
    (tmp_path / "item2attributes.json").write_text(json.dumps(table))
    schema = prepare("amazon_lists", [tmp_path], tmp_path / "out", ["min_count=1"])
    raw = pl.concat(read_raw(schema, [tmp_path])).filter(pl.col("label") == 1)
    first = raw.filter((pl.col("user") == "1") & (pl.col("item") == "5")).row(0, named=True)
    assert (first["item_history"], first["category"]) == ("1|3", "200")
    assert first["category_history"] == "201|203"
    assert raw.filter(pl.col("item") == "0")["category"].to_list() == [None] * 5


def test_an_item_table_has_its_own_format(tmp_path):
    rows = pl.DataFrame({"asin": ["a1", "a2", "a3"], "kind": ["crème", None, "thé"]})
    expected = rows.rename({"asin": "item", "kind": "category"})
    names = {"columns": ("item", "category")}
    path = tmp_path / "items.parquet"
    path.write_bytes(bz2.compress(rows.write_csv(separator=";").encode("latin-1")))
    rule = ItemTable(separator=";", encoding="latin-1", header=True, **names)
    assert read_item_table(path, rule).equals(expected)
    path.write_bytes(rows.write_csv(separator=";", include_header=False).encode("utf-16"))
    rule = ItemTable(separator=";", header=False, **names)
    assert read_item_table(path, rule).equals(expected)
    with pytest.raises(RecsysError, match=r"set events\.items\.header=true"):
        read_item_table(path, ItemTable(separator=";", **names))
    expected.write_ipc(path)
    assert read_item_table(path, ItemTable()).equals(expected)


def test_a_list_without_items_is_named(tmp_path):
    (tmp_path / "log.txt").write_text("1 2 3\n2\n")
    no_table = ["events.items=null", "events.item_features=[]"]
    with pytest.raises(RecsysError, match=r"(?s)has no item.*log\.txt, data row 2"):
        prepare("amazon_lists", [tmp_path], tmp_path / "out", no_table)


def test_parquet_item_tables(tmp_path):
    path = tmp_path / "items.parquet"
    pl.DataFrame({"item": [1, 2], "category": ["a", ""]}).write_parquet(path)
    assert read_item_table(path, ItemTable()).rows() == [("1", "a"), ("2", None)]


def test_numbers_of_an_item_table(tmp_path):
    log = Log(tmp_path, EVENTS)
    table = tmp_path / "items.csv"
    table.write_text("item,price\n" + "".join(f"i{n},{n}.25\n" for n in range(9)))
    features = ["events.item_features=[price]", "events.items={files: ['items*']}"]
    features += ["numerical.columns=[price]", "categorical.columns=[item]"]
    schema = log.prepare(*features, raw=[log.csv, table])
    rows = rows_of(log.out, *schema.splits)
    raw = pl.concat(read_raw(schema, [log.csv, table]))
    assert sorted(set(rows["price"])) == [n + 0.25 for n in range(9)]
    assert (raw["price"] == raw["item"].str.slice(1).cast(pl.Float64) + 0.25).all()
    content = table.read_text()
    table.write_text(content.replace("3.25", "1e39"))
    with pytest.raises(RecsysError, match=r"(?s)'price'.*float32.*item table.*1e\+39"):
        log.prepare(*features, raw=[log.csv, table], out=tmp_path / "other")
    table.write_text(content.replace("3.25", "cheap"))
    with pytest.raises(RecsysError, match=r"(?s)'price'.*item table.*'cheap'"):
        log.prepare(*features, raw=[log.csv, table], out=tmp_path / "other")


EVENTS = [(f"u{u}", f"i{(u * 2 + n) % 9}", n) for u in range(9) for n in range(4)]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["events.item=itm"], ["'itm' not found", "events.item", "did you mean 'item'"]),
        (["events.item_features=[colour]"], ["'colour' not found", "events.item_features"]),
        (["events.behaviours=[pv]"], ["events.action must be set", "events.action"]),
        (["events.action=action", "events.targets.actions=[PV]"], ["no event is a target", "PV"]),
        (["events.action=action", "events.behaviours=[PV]"], ["no event is a behavior", "PV"]),
        (["events.histories=[action]"], ["'action' cannot have a history", "item, category"]),
        (["split=random"], ["last_item", "random"]),
        (["events=null"], ["last_two_items", "event log"]),
        (["events.time=null", "split=by_time"], ["events.time"]),
        (["events.negatives=null"], ["'label' not found", "label.column"]),
        (
            ["events.items={files: ['meta*']}"],
            ["item table not found", "meta*"],
        ),
        (["events.max_lenght=3"], ["max_lenght", "did you mean 'max_length'"]),
        (["events.min_events=9"], ["'train' is empty"]),
    ],
)
def test_wrong_recipes(tmp_path, overrides, words):
    log = Log(tmp_path, EVENTS)
    with pytest.raises(RecsysError) as caught:
        log.prepare(*overrides)
    for word in words:
        assert word in str(caught.value)
    assert not log.out.exists()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("u0,i1,i,pv,1", "u0,i1,i,pv,soon", ["'time'", "data row 2", "'soon'"]),
        ("u0,i1,i,pv,1", "u0,,i,pv,1", ["missing value in the column 'item'", "data row 2"]),
        ("u0,i1,i,pv,1", ",i1,i,pv,1", ["missing value in the column 'user'", "data row 2"]),
        ("u0,i1,i,pv,1", "u0,i1,i,pv,", ["missing value in the column 'time'", "data row 2"]),
        ("u0,i1,i,pv,1", "u0,i1,i,pv", ["wrong number of columns", "data row 2"]),
    ],
)
def test_wrong_rows_are_named(tmp_path, old, new, words):
    log = Log(tmp_path, EVENTS)
    log.csv.write_text(log.csv.read_text().replace(old, new, 1))
    with pytest.raises(RecsysError) as caught:
        log.prepare()
    for word in [*words, "log.csv"]:
        assert word in str(caught.value)


def test_wrong_item_tables_are_named(tmp_path):
    log = Log(tmp_path, EVENTS)
    table = tmp_path / "items.csv"
    items = "events.items={files: ['items*']}"
    for content, words in [
        ("sku,category\n1,a\n", ["column 'item' not found", "sku, category"]),
        ('{"1": 2}\n', ["has no list"]),
        ('{"1": \n', ["invalid JSON"]),
        ('{"asin": "x"}\n{"also": 1}\n', ["no asin", "data row 2"]),
    ]:
        table.write_text(content)
        with pytest.raises(RecsysError) as caught:
            log.prepare(items, raw=[log.csv, table])
        assert all(word in str(caught.value) for word in [*words, "items.csv"])


def test_reviews_with_invalid_json_are_named(tmp_path):
    (tmp_path / "reviews.json").write_text('{"reviewerID": "A", "asin": "B"}\n{"reviewerID": \n')
    with pytest.raises(RecsysError, match=r"(?s)JSON.*reviews\.json, data rows 1 to 2"):
        prepare(
            *("amazon_reviews", [tmp_path / "reviews.json"], tmp_path / "out"),
            ["events.items=null", "events.item_features=[]"],
        )


def test_items_with_the_separator_of_histories_cannot_be_raw_rows(tmp_path):
    log = Log(tmp_path, [(u, i.replace("i1", "i|1"), t) for u, i, t in EVENTS])
    schema = log.prepare()
    with pytest.raises(RecsysError, match=r"(?s)'item' contains the sep.*sequence\.separator"):
        list(read_raw(schema, [log.csv]))
    schema = log.prepare("sequence.separator=;", out=tmp_path / "other")
    assert len(pl.concat(read_raw(schema, [log.csv]))) == sum(
        s.rows for s in schema.splits.values()
    )


REAL = {
    "one_day": ("taobao", "taobao", ["UserBehavior_96k_one_day.csv.gz"]),
    "beauty": ("amazon_lists", "amazon", ["Beauty_5core*.gz", "Beauty_item*.gz"]),
    "sports": ("amazon_lists", "amazon", ["Sports_5core*.gz", "Sports_item*.gz"]),
    "instruments": ("amazon_reviews", "amazon", ["Musical_Instruments_5core*.gz"]),
    "grocery": ("configs/recipes/amazon_grocery.yaml", "amazon", ["Grocery_5*", "Grocery_item*"]),
    "movielens": ("movielens_1m_history", ".", ["movielens_1m"]),
}
OVERRIDES = {
    "one_day": [],
    "instruments": ["events.items=null", "events.item_features=[]"],
    "movielens": ["split.seed=2"],
}


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.parametrize("name", REAL)
def test_real_logs_have_no_leakage_and_equal_encodings(real_data, tmp_path, name):
    recipe, folder, patterns = REAL[name]
    raw = [next((real_data / folder).glob(pattern)) for pattern in patterns]
    changes = OVERRIDES.get(name, ["events.targets.per_user=1"])
    schema = prepare(recipe, raw, tmp_path / "out", changes)
    check_leakage(tmp_path / "out", raw)
    prepared = rows_of(tmp_path / "out", *schema.splits)
    encoder = RawEncoder(schema.features, tmp_path / "out")
    frames = [
        (encode(schema, tmp_path / "out", f), encoder.encode(f)) for f in read_raw(schema, raw)
    ]
    ours, independent = (pl.concat(part) for part in zip(*frames, strict=True))
    names = [feature.name for feature in schema.features]
    assert independent.select(names).equals(ours.select(names))
    by = ["group_id", "label", *names]
    assert ours.select(by).sort(by).equals(prepared.select(by).sort(by))


@pytest.mark.real_data
def test_real_taobao_histories_equal_the_reference(real_data, tmp_path):
    raw = real_data / "taobao/UserBehavior_10k_114users_full_history.csv.gz"
    with gzip.open(raw, "rt") as file:
        lines = [line.strip().split(",") for line in file]
    events = [(user, item, int(time), action) for user, item, _, action, time in lines]
    schema = prepare("taobao", [raw], tmp_path / "out", ["events.max_length=20"])
    rows = pl.concat(read_raw(schema, [raw])).filter(pl.col("label") == 1)
    history = pl.col("item_history").str.replace_all("|", " ", literal=True)
    expected = plain_samples(events, 20, ("pv",), ("pv",))
    assert sorted(rows.select("item", history).rows()) == [pair for pair in expected if pair[1]]
