"""The check finds each kind of planted leakage, and none in correct datasets."""

import dataclasses

import numpy as np
import polars as pl
import pytest

from data_pipelines import check_leakage
from data_pipelines.__main__ import main
from data_pipelines.events.samples import UserEvents
from data_pipelines.writing import SplitWriter, save_schema
from recsys.errors import RecsysError
from tests.data_pipelines.events.event_logs import Log, random_events

EVENTS = random_events(np.random.default_rng(2), users=40, items=60, rows=800)


@pytest.fixture
def log(tmp_path):
    log = Log(tmp_path, EVENTS)
    log.prepare("events.check_leakage=false")
    check_leakage(log.out, [log.csv])
    return log


def plant(log, split, change):
    """Rewrites a split's rows, and its vocabularies' counts where they are train rows."""
    writer = SplitWriter(log.out, split)
    writer.add(change(log.ids(split)))
    files = {split: log.schema.split(split).model_copy(update={"files": writer.close()})}
    log.schema = log.schema.model_copy(update={"splits": {**log.schema.splits, **files}})
    save_schema(log.schema, log.out)


def first_positive(rows, longer_than=2):
    long = (rows["label"] == 1) & (rows["item_history"].list.len() > longer_than)
    return int(long.arg_true()[0])


def set_history(rows, row, history):
    histories = rows["item_history"].to_list()
    histories[row] = history
    return rows.with_columns(item_history=pl.Series(histories, dtype=pl.List(pl.Int32)))


def finds(log, words):
    with pytest.raises(RecsysError, match=words) as caught:
        check_leakage(log.out, [log.csv])
    return str(caught.value)


def test_the_target_in_its_own_history_is_found(log):
    def with_target(rows):
        row = first_positive(rows)
        return set_history(rows, row, [*rows["item_history"][row], rows["item"][row]])

    plant(log, "test", with_target)
    message = finds(log, "leakage: a history is not the events before its target")
    assert f"test, row {first_positive(log.ids('test'))}" in message


def test_a_future_item_in_a_history_is_found(log):
    """The history of a user's last event, put beside an earlier one."""
    last = log.ids("test").filter(pl.col("label") == 1)
    last_history = dict(last.select("group_id", "item_history").iter_rows())

    def with_future(rows):
        later = [last_history[user] for user in rows["group_id"]]
        differs = [a != b for a, b in zip(later, rows["item_history"].to_list(), strict=True)]
        row = int((pl.Series(differs) & (rows["label"] == 1)).arg_true()[0])
        return set_history(rows, row, later[row])

    plant(log, "valid", with_future)
    finds(log, "leakage: a history is not the events before its target")


def test_a_history_with_events_of_the_targets_own_time_is_found(tmp_path):
    log = Log(tmp_path, EVENTS)
    log.prepare("events.ties=by_order")
    check_leakage(log.out, [log.csv])
    events = log.schema.recipe["events"] | {"ties": "excluded"}
    log.schema = log.schema.model_copy(update={"recipe": {**log.schema.recipe, "events": events}})
    save_schema(log.schema, log.out)
    finds(log, "leakage: a history is not the events before its target")


def test_histories_in_the_wrong_order_are_found(log):
    plant(log, "test", lambda rows: rows.with_columns(pl.col("item_history").list.reverse()))
    finds(log, "leakage: a history")


def test_another_users_history_is_found(log):
    plant(log, "test", lambda rows: rows.with_columns(pl.col("group_id").shift(5, fill_value=7)))
    finds(log, "leakage: a history")


def test_a_negative_of_the_users_own_future_is_found(log):
    last = log.ids("test").filter((pl.col("label") == 1) & (pl.col("item") > 0))
    item_of = dict(last.select("group_id", "item").iter_rows())

    def with_own(rows):
        items, users = rows["item"].to_list(), rows["group_id"].to_list()
        row = next(n for n, y in enumerate(rows["label"]) if y == 0 and users[n] in item_of)
        items[row] = item_of[users[row]]
        return rows.with_columns(item=pl.Series(items, dtype=pl.Int32))

    plant(log, "valid", with_own)
    finds(log, "leakage: the user has an event with the item of a negative")


def test_a_vocabulary_that_was_fitted_on_the_test_rows_too_is_found(log):
    path = log.out / "vocabularies/item.parquet"
    table = pl.read_parquet(path)
    rows = pl.concat([log.ids("train"), log.ids("test")])
    ids = pl.concat([rows["item"], rows["item_history"].explode().drop_nulls()]).value_counts()
    counts = dict(ids.iter_rows())
    table.with_columns(count=pl.Series([counts[i] for i in table["id"]])).write_parquet(path)
    message = finds(log, "leakage: a vocabulary was not fitted on the train rows")
    assert "item.parquet" in message


def test_a_value_that_only_test_rows_have_in_a_vocabulary_is_found(log):
    path = log.out / "vocabularies/item.parquet"
    table = pl.read_parquet(path)
    extra = pl.DataFrame({"value": "new", "id": len(table) + 1, "count": 1}, schema=table.schema)
    pl.concat([table, extra]).write_parquet(path)
    finds(log, "'new'")


def test_prepare_checks_by_itself(tmp_path, monkeypatch):
    right = UserEvents.of

    def one_too_many(frame, rules):
        events = right(frame, rules)
        return dataclasses.replace(events, window_end=events.window_end + 1)

    monkeypatch.setattr(UserEvents, "of", one_too_many)
    log = Log(tmp_path, EVENTS)
    with pytest.raises(RecsysError, match="leakage"):
        log.prepare("split.method=by_group")
    assert not log.out.exists()


def test_of_a_long_log_a_share_of_the_users_is_checked(log):
    check_leakage(log.out, [log.csv], max_events=200)
    plant(log, "test", lambda rows: rows.with_columns(pl.col("item_history").list.reverse()))
    with pytest.raises(RecsysError, match="leakage: a history"):
        check_leakage(log.out, [log.csv], max_events=200)


def test_datasets_without_histories_have_vocabularies_to_check(shop):
    shop.prepare()
    check_leakage(shop.out)
    path = shop.out / "vocabularies/tags.parquet"
    table = pl.read_parquet(path)
    table.with_columns(pl.col("count") + 1).write_parquet(path)
    with pytest.raises(RecsysError, match="not fitted on the train rows"):
        check_leakage(shop.out)


def test_the_command_line_checks_too(log, monkeypatch, capsys):
    command = ["data_pipelines", "check", str(log.out), "--raw", str(log.csv)]
    monkeypatch.setattr("sys.argv", command)
    assert main() == 0
    assert "no leakage found" in capsys.readouterr().out
    plant(log, "test", lambda rows: rows.with_columns(pl.col("item_history").list.reverse()))
    assert main() == 2
    assert "leakage" in capsys.readouterr().err
