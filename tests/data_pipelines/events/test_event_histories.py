"""Histories, targets and splits of an event log, on logs small enough to check by eye."""

import numpy as np
import polars as pl
import pytest

from data_pipelines import encode, read_raw
from tests.data_pipelines.events.event_logs import Log, plain_samples, random_events

# u1 has two events at time 3; the log is in no order.
EVENTS = [
    *(("u1", "a2", 2), ("u1", "a1", 1), ("u1", "b1", 3), ("u1", "b2", 3), ("u1", "c1", 5)),
    *(("u2", "b1", 1), ("u2", "c1", 2), ("u2", "a1", 3)),
    *(("u3", "z1", 1), ("u3", "z2", 2), ("u3", "z3", 3), ("u3", "z4", 4)),
]
BY_TIME = "split={method: by_time, boundaries: [3, 5]}"


@pytest.fixture
def log(tmp_path):
    return Log(tmp_path, EVENTS)


def test_histories_contain_earlier_events_oldest_first(log):
    log.prepare(BY_TIME)
    train = [("a1", ""), ("a2", "a1"), ("b1", ""), ("c1", "b1"), ("z1", ""), ("z2", "z1")]
    assert log.samples("train") == train
    assert [history for _, history in log.samples("test")] == ["a1 a2 b1 b2"]


def test_events_of_one_time_are_not_in_each_others_histories(log):
    log.prepare(BY_TIME)
    of_u1 = [("a1", ""), ("a2", "a1"), ("b1", "a1 a2"), ("b2", "a1 a2"), ("c1", "a1 a2 b1 b2")]
    assert [s for s in log.all_samples() if s in of_u1] == of_u1
    assert len(log.all_samples()) == len(EVENTS)


def test_by_order_and_without_times_the_order_of_the_log_decides(log):
    log.prepare(BY_TIME, "events.ties=by_order")
    assert ("b2", "a1 a2 b1") in log.all_samples()
    untimed = [(u, i, 0) for u, i, _ in sorted(EVENTS, key=lambda e: (e[0], e[2]))]
    log.write(untimed)
    log.prepare("events.time=null", out=log.folder / "untimed")
    assert ("b2", "a1 a2 b1") in log.all_samples()
    assert ("c1", "a1 a2 b1 b2") in log.all_samples()


def test_long_histories_keep_the_last_behaviors(log):
    log.prepare(BY_TIME, "events.max_length=2")
    assert [history for _, history in log.samples("test")] == ["b1 b2"]
    assert {log.schema.feature(f"{n}_history").max_length for n in ("item", "category")} == {2}


def test_every_history_has_the_lengths_and_categories_of_its_items(log):
    log.prepare(BY_TIME)
    items, categories = log.texts("item"), log.texts("category")
    rows = pl.concat([log.ids(split) for split in log.schema.splits])
    for history, of_categories in rows.select("item_history", "category_history").iter_rows():
        assert len(history) == len(of_categories)
        for item, category in zip(history, of_categories, strict=True):
            assert items[item] == "?" or items[item][0] == categories[category]


def test_some_actions_are_behaviors_and_some_are_targets(tmp_path):
    actions = ["pv", "cart", "pv", "buy", "pv", "buy", "buy"]
    events = [("u", f"i{n}", n, action) for n, action in enumerate(actions)]
    others = [("v", f"i{n}", n, "buy") for n in range(20, 24)]
    log = Log(tmp_path, events + others)
    log.prepare("events.action=action", "events.behaviours=[pv]", "events.targets.actions=[buy]")
    rows = [log.ids(split).filter(pl.col("label") == 1) for split in ("train", "valid", "test")]
    assert [sorted(r["item_history"].list.len()) for r in rows] == [[0, 0, 2], [0, 3], [0, 3]]


def test_last_two_items_are_test_and_valid_and_the_rest_is_train(log):
    log.prepare()
    assert log.samples("train")[0] == ("a1", "")
    histories = {split: sorted(h for _, h in log.samples(split)) for split in ("valid", "test")}
    assert [len(h.split()) for h in histories["test"]] == [4, 2, 3]
    assert sorted(len(h.split()) for h in histories["valid"]) == [1, 2, 2]


def test_last_item_takes_valid_from_a_share_of_the_users(tmp_path):
    log = Log(tmp_path, [(f"u{u}", f"i{n % 7}{u % 5}", n) for u in range(200) for n in range(4)])
    schema = log.prepare("split={method: last_item, valid_users: 0.25}")
    positives = {name: split.positives for name, split in schema.splits.items()}
    assert positives["test"] == 200
    assert positives["train"] + positives["valid"] == 600
    assert 30 <= positives["valid"] <= 70
    assert log.ids("valid")["group_id"].n_unique() == positives["valid"]


def test_by_group_keeps_users_whole(tmp_path):
    log = Log(tmp_path, [(f"u{u}", f"i{n}", n) for u in range(60) for n in range(4)])
    log.write([(f"u{u}", f"i{n + u % 9}", n) for u in range(60) for n in range(4)])
    log.prepare("split.method=by_group")
    users = [set(log.ids(split)["group_id"]) for split in ("train", "valid", "test")]
    assert sum(map(len, users)) == len(set.union(*users)) == 60


def test_by_time_finds_boundaries_for_shares(tmp_path):
    log = Log(tmp_path, [(f"u{n % 5}", f"i{n % 30}", n) for n in range(100)])
    schema = log.prepare("split={method: by_time, fractions: [0.7, 0.2, 0.1]}")
    assert [split.positives for split in schema.splits.values()] == [70, 20, 10]


def test_every_kth_target_counts_from_the_end_as_dare_does(tmp_path):
    clicks = [("u", f"i{n}", n) for n in range(120)]
    log = Log(tmp_path, clicks + [("v", f"j{n}", n) for n in range(120)])
    log.prepare("events.targets={every: 5, per_user: 19}", "events.max_length=10", "min_count=1")
    rows = log.ids("train").filter(pl.col("label") == 1)
    assert len(rows) == 2 * 19
    last = [n for n in range(120) if n in {120 - k for k in range(3, 94, 5)}]
    seen = {int(name[1:]) for name in log.texts("item") if name.startswith("i")}
    assert {f"i{n}" for n in last} <= set(log.texts("item"))
    assert max(last) == 117
    assert min(last) == 27
    assert 118 not in seen or ("i118", "") not in log.samples("train")


def test_users_with_few_behaviors_are_dropped(log):
    schema = log.prepare("events.min_events=4")
    assert schema.split("test").positives == 2


def test_targets_need_a_history_by_default(log):
    log.prepare("events.targets.min_history=2")
    assert min(len(history.split()) for _, history in log.all_samples()) == 2


@pytest.mark.parametrize("buckets", [1, 7])
@pytest.mark.parametrize("max_length", [3, 100])
def test_samples_equal_the_reference(tmp_path, monkeypatch, buckets, max_length):
    events = random_events(np.random.default_rng(3))
    monkeypatch.setattr("data_pipelines.events.log.BUCKET_EVENTS", -(-len(events) // buckets))
    monkeypatch.setattr("data_pipelines.events.rows.SLICE_ROWS", 100)
    log = Log(tmp_path, events)
    overrides = ("events.action=action", f"events.max_length={max_length}", "split.method=by_group")
    log.prepare(*overrides)
    assert log.all_samples() == plain_samples(events, max_length)


def test_samples_of_some_actions_equal_the_reference(tmp_path):
    events = random_events(np.random.default_rng(4))
    log = Log(tmp_path, events)
    log.prepare(
        *("events.action=action", "events.behaviours=[pv]", "events.targets.actions=[buy]"),
        "split.method=by_group",
    )
    assert log.all_samples() == plain_samples(events, 100, ("pv",), ("buy",))


def test_labeled_logs_keep_their_labels_without_negatives(tmp_path):
    log = Log(tmp_path)
    stars = [5, 3, 1, 4, 2, 5]
    log.write([(f"u{u}", f"i{n}", n, stars[(n + u) % 6]) for u in range(8) for n in range(6)])
    label = "label={column: action, rule: {kind: threshold, positive: 4, negative: 2}}"
    log.prepare(
        "events.negatives=null", label, "events.action=action", "events.behaviours=['4','5']"
    )
    rows = pl.concat([log.ids(split) for split in log.schema.splits])
    assert len(rows) == sum(stars[(n + u) % 6] != 3 for u in range(8) for n in range(6))
    assert rows["label"].sum() == sum(stars[(n + u) % 6] > 3 for u in range(8) for n in range(6))
    assert rows["item_history"].list.len().max() <= 3
    samples = pl.concat(read_raw(log.schema, [log.csv]))
    samples.write_parquet(tmp_path / "samples.parquet")
    again = pl.concat(read_raw(log.schema, [tmp_path / "samples.parquet"]))
    assert again.select(samples.columns).equals(samples)


def test_the_log_encodes_like_prepare_and_so_do_its_samples_as_a_table(log):
    schema = log.prepare(BY_TIME, "categorical.columns=[item, category, user]")
    parts = pl.concat([log.ids(split) for split in schema.splits])
    samples = pl.concat(read_raw(schema, [log.csv]))
    assert set(samples.columns) == {*parts.columns, "user"} - {"group_id"}
    encoded = encode(schema, log.out, samples)
    assert encoded.select(parts.columns).sort(parts.columns).equals(parts.sort(parts.columns))
    for name, write in (
        ("t.csv", pl.DataFrame.write_csv),
        ("t.parquet", pl.DataFrame.write_parquet),
    ):
        write(samples, log.folder / name)
        again = encode(schema, log.out, pl.concat(read_raw(schema, [log.folder / name])))
        assert again.select(encoded.columns).equals(encoded)


def test_vocabularies_are_fitted_on_the_train_rows_and_count_histories(log):
    log.write([(*event, n % 2) for n, event in enumerate(EVENTS)])
    log.prepare("events.negatives=null", "label.column=action")
    train = log.ids("train")
    counts = pl.concat([train["item"], train["item_history"].explode().drop_nulls()]).value_counts()
    table = pl.read_parquet(log.out / "vocabularies/item.parquet")
    assert sorted(counts.rows()) == sorted(table.select("id", "count").rows())
    assert table.filter(pl.col("value") == "z1")["count"].to_list() == [2]  # as target, before z2
    assert "z4" not in table["value"]
    assert not (log.out / "vocabularies/item_history.parquet").exists()
    assert log.schema.feature("item_history").encoding == log.schema.feature("item").encoding


def test_hashed_items_need_no_vocabulary(log):
    schema = log.prepare(BY_TIME, "encoding={kind: hash, cardinality: 101}")
    assert {schema.feature(n).cardinality for n in ("item", "item_history")} == {101}
    assert not (log.out / "vocabularies").exists()
    raw = pl.concat(read_raw(schema, [log.csv]))
    parts = pl.concat([log.ids(split) for split in schema.splits])
    encoded = encode(schema, log.out, raw).select(parts.columns)
    assert encoded.sort(parts.columns).equals(parts.sort(parts.columns))


def test_numbers_and_many_valued_columns_of_events_and_items_are_features_too(tmp_path):
    lines = [
        f"u{u},i{n},{n}.5,{'x|y' if n % 2 else 'y'},{u + n},{n}" for u in range(6) for n in range(5)
    ]
    log = Log(tmp_path)
    log.csv.write_text("user,item,price,tags,hour,time\n" + "\n".join(lines) + "\n")
    log.recipe.write_text(
        "events:\n  item_features: [price, tags]\n  targets: {min_history: 0}\n"
        "  histories: [item, hour]\n"
        "numerical: {columns: [price], transform: standardize}\n"
        "categorical: {columns: [item, hour]}\nsequence: {columns: [tags]}\nmin_count: 1\n"
        "split: last_two_items\n"
    )
    with pytest.raises(Exception, match="almost all items"):
        log.prepare()
    log.csv.write_text(log.csv.read_text() + "w,i9,3.5,x,1,1\nw,i8,3.5,x,1,2\nw,i7,3.5,x,1,3\n")
    schema = log.prepare()
    assert [f.name for f in schema.features] == [
        *("price", "item", "hour", "tags", "item_history", "hour_history")
    ]
    parts = pl.concat([log.ids(split) for split in schema.splits])
    encoded = encode(schema, log.out, pl.concat(read_raw(schema, [log.csv])))
    assert encoded.select(parts.columns).sort(parts.columns).equals(parts.sort(parts.columns))
    train = log.ids("train")["price"]
    assert abs(train.mean()) < 1e-6
    assert train.std(ddof=0) == pytest.approx(1, rel=1e-5)
