"""Counts and warnings of `prepare`: missing, unseen and dropped values, leakage, item tables."""

import numpy as np
import polars as pl
import pytest

import data_pipelines
from data_pipelines.encoding.statistics import LEAK_ROWS
from recsys.cli.dataset_text import describe_statistics
from recsys.errors import RecsysError
from recsys.schema import FeatureCounts, Schema, load_schema
from tests.data_pipelines.events.event_logs import Log

RECIPE = """
label: {{column: label, rule: {rule}}}
numerical: {{columns: [x, log_x], transform: keep}}
categorical: {{columns: [a, h]}}
sequence: {{columns: [s], separator: "|", max_length: 3}}
min_count: 1
per_feature:
  log_x: {{transform: log}}
  h: {{encoding: {{kind: hash, cardinality: 11}}}}
split: {{method: given_files}}
"""


def prepare(folder, rows, rule="binary") -> Schema:
    """`rows`: split → columns."""
    folder.mkdir(exist_ok=True)
    (folder / "recipe.yaml").write_text(RECIPE.format(rule=rule))
    for split, columns in rows.items():
        pl.DataFrame(columns).write_csv(folder / f"{split}.csv")
    files = [folder / f"{split}.csv" for split in rows]
    return data_pipelines.prepare(str(folder / "recipe.yaml"), files, folder / "out")


def columns(labels, **changes):
    count = len(labels)
    plain = {
        "label": labels,
        "x": [float(i % 3) for i in range(count)],
        "log_x": [1.0] * count,
        "a": [f"a{i % 2}" for i in range(count)],
        "h": [f"h{i % 2}" for i in range(count)],
        "s": ["u|v"] * count,
    }
    return plain | changes


@pytest.fixture(scope="module")
def schema(tmp_path_factory):
    train = columns([0, 1, 0, 1], x=[None, 1.0, 2.0, None], a=["a", "b", None, "a"])
    valid = columns([0, 1, 0], log_x=[None, 2.0, 3.0], a=["new", "b", None], h=[None, "h", "h"])
    test = columns([0, 1], s=["u||new", None], a=["new", "other"])
    rows = {"train": train, "valid": valid, "test": test}
    return prepare(tmp_path_factory.mktemp("statistics"), rows)


def test_missing_and_unseen_values_are_counted_by_feature_and_split(schema):
    def counts(values, missing, unseen, distinct):
        return FeatureCounts(values=values, missing=missing, unseen=unseen, distinct=distinct)

    found = schema.statistics
    assert found["x"]["train"] == counts(4, 2, 0, None)
    assert found["x"]["valid"] == counts(3, 0, 0, None)
    assert found["log_x"]["valid"] == counts(3, 1, 0, None)
    assert found["a"]["train"] == counts(4, 1, 0, 2)
    assert found["a"]["valid"] == counts(3, 1, 1, 1)
    assert found["a"]["test"] == counts(2, 0, 2, 0)
    assert found["h"]["valid"] == counts(3, 1, 0, 1)
    assert found["s"]["train"] == counts(8, 0, 0, 2)
    assert found["s"]["test"] == counts(3, 1, 1, 1)


def test_the_counts_are_kept_in_the_schema_and_printed_worst_first(schema, tmp_path):
    (tmp_path / "schema.json").write_text(schema.model_dump_json())
    assert load_schema(tmp_path).statistics == schema.statistics
    table = next(describe_statistics(schema))
    assert next(iter(table.columns[0].cells)) == "a"
    assert "100.00%" in next(iter(table.columns[2].cells))


def test_missing_numbers_have_the_value_of_the_transform(tmp_path):
    rows = {
        "train": columns([0, 1], x=[None, 3.0], log_x=[None, 0.0]),
        "valid": columns([0, 1]),
        "test": columns([0, 1]),
    }
    prepare(tmp_path, rows)
    train = pl.read_parquet(tmp_path / "out/train/part-00000.parquet")
    assert train["x"].to_list() == [0.0, 3.0]
    assert train["log_x"].to_list() == [0.0, 0.0]


def test_mostly_unseen_values_and_splits_of_one_class_give_warnings(schema, tmp_path):
    assert [w for w in schema.warnings if w.startswith("a: 100.0% of the test")]
    rows = {name: columns([0, 0, int(name == "train")]) for name in ("train", "valid", "test")}
    assert "every row of the valid split has label 0" in prepare(tmp_path, rows).warnings


def test_a_feature_of_one_value_gives_a_warning(tmp_path):
    rows = {name: columns([0, 1], a=["same"] * 2) for name in ("train", "valid", "test")}
    assert "a: the train rows have one value" in prepare(tmp_path, rows).warnings


def test_a_feature_that_contains_the_label_gives_a_warning(tmp_path):
    labels = [0, 1] * LEAK_ROWS
    noise = np.random.default_rng(0).normal(size=len(labels)).tolist()
    leaks = {"a": [f"l{label}" for label in labels], "x": [-float(label) for label in labels]}
    rows = {
        name: columns(labels, **leaks, log_x=noise, h=["h"] * len(labels))
        for name in ("train", "valid", "test")
    }
    leaking = [
        w.split(":")[0] for w in prepare(tmp_path, rows).warnings if "valid rows is 1.0000" in w
    ]
    assert sorted(leaking) == ["a", "x"]


def test_rows_that_the_label_rule_drops_are_counted(tmp_path):
    rule = "{kind: threshold, positive: 4, negative: 2}"
    rows = {name: columns([1, 5, 3, 3]) for name in ("train", "valid", "test")}
    (reason, count), *others = prepare(tmp_path, rows, rule).dropped_rows.items()
    assert (count, others) == (6, [])
    assert "label.rule" in reason


EVENTS = """
events:
  user: user
  item: item
  time: time
  item_features: [category]
  items: {files: ['items*'], item: item}
  max_length: 5
  negatives: {per_positive: 1, sampling: uniform, seed: 1}
min_count: 1
split: last_two_items
"""


def prepare_events(folder, table_items) -> Schema:
    (folder / "recipe.yaml").write_text(EVENTS)
    rng = np.random.default_rng(0)
    log = {"user": np.repeat(np.arange(20), 8), "item": rng.integers(1, 11, 160)}
    pl.DataFrame({**log, "time": np.arange(160)}).write_csv(folder / "log.csv")
    categories = [f"c{i % 3}" for i in range(len(table_items))]
    table = pl.DataFrame({"item": table_items, "category": categories})
    table.write_csv(folder / "items.csv")
    raw = [folder / "log.csv", folder / "items.csv"]
    return data_pipelines.prepare(str(folder / "recipe.yaml"), raw, folder / "out")


def test_items_written_as_floats_are_joined(tmp_path):
    schema = prepare_events(tmp_path, [float(i) for i in range(1, 11)])
    assert not [w for w in schema.warnings if "item table" in w]
    assert schema.feature("category").cardinality == 4
    assert schema.statistics["category"]["train"].unseen == 0


def test_items_without_a_match_are_named(tmp_path):
    schema = prepare_events(tmp_path, [1, 2, 3, 4, 77])
    lacking, unused = (w for w in schema.warnings if "item table" in w)
    assert "6 of 10 items (60.0%)" in lacking
    assert "1 of its 5 items are not in the log" in unused


def test_a_table_with_items_in_another_form_is_refused_with_examples_of_both(tmp_path):
    with pytest.raises(RecsysError) as error:
        prepare_events(tmp_path, [f"{i:04d}" for i in range(1, 11)])
    assert "no key of the items is in the table" in str(error.value)
    assert "'0001'" in str(error.value)


@pytest.mark.parametrize(
    ("boundary", "seconds"),
    [
        ("2017-11-08 16:00:00", 1510156800.0),
        ("'2017-11-08'", 1510099200.0),
        ("2017-11-08", 1510099200.0),
        ("'2017-11-08T16:00:00+08:00'", 1510128000.0),
        ("1510156800", 1510156800.0),
    ],
)
def test_boundaries_of_time_take_dates_in_utc(tmp_path, boundary, seconds):
    split = f"split: {{method: by_time, column: t, boundaries: [{boundary}, 2e9]}}"
    text = f"label: {{column: l}}\n{split}"
    (tmp_path / "recipe.yaml").write_text(text + "\ncategorical: {columns: [a]}\n")
    recipe = data_pipelines.find_recipe(str(tmp_path / "recipe.yaml"))
    assert recipe.split.boundaries == (seconds, 2e9)


def test_an_invalid_boundary_is_refused(tmp_path):
    text = "label: {column: l}\nsplit: {method: by_time, column: t, boundaries: [soon, 2e9]}"
    (tmp_path / "recipe.yaml").write_text(text)
    with pytest.raises(RecsysError, match="soon"):
        data_pipelines.find_recipe(str(tmp_path / "recipe.yaml"))


def test_numbers_that_float32_cannot_represent_give_a_warning(tmp_path):
    seconds = [1_700_000_000.0 + i for i in range(4)]
    rows = {name: columns([0, 1, 0, 1], x=seconds) for name in ("train", "valid", "test")}
    found = [w for w in prepare(tmp_path, rows).warnings if w.startswith("x: values up to 1.7e+09")]
    assert "float32" in found[0]


def test_an_event_log_counts_missing_and_unseen_values_separately(tmp_path):
    events = [(f"u{u}", f"a{u}{i}", i) for u in range(4) for i in range(8)]
    log = Log(tmp_path, events)
    items = pl.DataFrame({"item": [e[1] for e in events], "brand": ["x", None] * 16})
    items.write_csv(tmp_path / "items.csv")
    schema = log.prepare(
        "join=[{files: ['items*'], key: item, file: {}}]",
        "events.item_features=[brand]",
        "per_feature.item.min_count=4",
        raw=[log.csv, tmp_path / "items.csv"],
    )
    rows = pl.concat(data_pipelines.read_raw(schema, [log.csv, tmp_path / "items.csv"]))
    counts = schema.statistics["brand"]
    assert sum(c.missing for c in counts.values()) == rows["brand"].null_count()
    assert sum(c.unseen for c in counts.values()) == 0
    item = schema.statistics["item"]["train"]
    assert (item.missing, item.unseen) == (0, (log.ids("train")["item"] == 0).sum())
    history = schema.statistics["brand_history"]["train"]
    ids = log.ids("train")["brand_history"].explode().drop_nulls()
    assert (history.values, history.missing) == (len(ids), (ids == 0).sum())
    assert history.unseen == 0


def test_a_constant_number_gives_a_warning(tmp_path):
    rows = {name: columns([0, 1]) for name in ("train", "valid", "test")}
    warnings = prepare(tmp_path, rows).warnings
    assert "log_x: the train rows have one value, 0.693147" in warnings
    assert not [w for w in warnings if w.startswith("x:")]


def test_duplicate_items_of_a_table_are_named(tmp_path):
    warnings = prepare_events(tmp_path, [*map(str, range(1, 11)), "3", "4.0"]).warnings
    assert "item table: 2 rows have the item of an earlier row, which is used instead" in warnings
