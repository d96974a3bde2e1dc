"""Negatives: which items are allowed, how they are drawn, and reproducible draws."""

import numpy as np
import polars as pl
import pytest

from data_pipelines import read_raw
from tests.data_pipelines.events.event_logs import Log, random_events

EVENTS = random_events(np.random.default_rng(1), users=40, items=60, rows=800)


def rows_as_text(log, out=None):
    """Every row of every split, as ids, in an order of its own."""
    frames = [log.ids(s, out).with_columns(split=pl.lit(s)) for s in log.schema.splits]
    return sorted(map(repr, pl.concat(frames).iter_rows()))


def negatives(log):
    rows = pl.concat(read_raw(log.schema, [log.csv]))
    return rows.filter(pl.col("label") == 0)


def test_no_negative_is_an_item_that_the_user_has_any_event_with(tmp_path):
    log = Log(tmp_path, EVENTS)
    log.prepare("events.action=action", "events.behaviours=[pv]", "events.targets.actions=[buy]")
    own = {(user, item) for user, item, *_ in EVENTS}
    drawn = set(negatives(log).select("user", "item").rows())
    assert drawn
    assert not drawn & own


@pytest.mark.parametrize("sampling", ["uniform", "popularity"])
def test_each_target_has_its_number_of_negatives_with_its_own_histories(tmp_path, sampling):
    log = Log(tmp_path, EVENTS)
    log.prepare("events.negatives.per_positive=3", f"events.negatives.sampling={sampling}")
    rows = pl.concat([log.ids(s) for s in log.schema.splits])
    by = rows.group_by("group_id", "item_history", "category_history").agg(pl.col("label").mean())
    assert set(by["label"]) == {0.25}
    assert log.schema.split("test").rows == 4 * log.schema.split("test").positives


def test_uniform_draws_are_uniform_and_popular_ones_follow_the_counts(tmp_path):
    # Users of one item each; half of them have a0, so that half of the others' draws hit it.
    items = ["a0"] * 300 + [f"b{n % 30}" for n in range(300)]
    events = [(f"u{n}", item, t) for n, item in enumerate(items) for t in (1, 2, 3)]
    log, shares = Log(tmp_path, events), {}
    for sampling in ("uniform", "popularity"):
        log.prepare(f"events.negatives.sampling={sampling}", out=tmp_path / sampling)
        of_others = negatives(log).filter(~pl.col("user").is_in([f"u{n}" for n in range(300)]))
        shares[sampling] = (of_others["item"] == "a0").mean()
    assert shares["uniform"] == pytest.approx(1 / 30, abs=0.02)
    assert shares["popularity"] == pytest.approx(300 / 590, abs=0.05)


def test_equal_seeds_give_equal_bytes_however_the_log_is_divided(tmp_path, monkeypatch):
    log = Log(tmp_path, EVENTS)
    first = log.prepare()
    monkeypatch.setattr("data_pipelines.reading.text.BLOCK_BYTES", 500)
    monkeypatch.setattr("data_pipelines.events.rows.SLICE_ROWS", 17)
    assert log.prepare(out=tmp_path / "again") == first
    expected = rows_as_text(log)
    monkeypatch.setattr("data_pipelines.events.log.BUCKET_EVENTS", 100)
    log.prepare(out=tmp_path / "buckets")
    assert rows_as_text(log, tmp_path / "buckets") == expected
    log.prepare("events.negatives.seed=2", out=tmp_path / "other")
    assert rows_as_text(log, tmp_path / "other") != expected


def test_the_order_of_the_logs_rows_does_not_matter_where_times_differ(tmp_path):
    events = [(u, i, n, a) for n, (u, i, _, a) in enumerate(EVENTS)]
    log = Log(tmp_path, events)
    log.prepare()
    expected = rows_as_text(log)
    log.write([events[n] for n in np.random.default_rng(0).permutation(len(events))])
    log.prepare(out=tmp_path / "shuffled")
    assert rows_as_text(log, tmp_path / "shuffled") == expected


def test_the_order_of_rows_mixes_users_and_labels(tmp_path):
    log = Log(tmp_path, EVENTS)
    log.prepare()
    train = log.ids("train")
    same_user = (train["group_id"] == train["group_id"].shift(1)).mean()
    assert same_user < 3 / 40
    half = len(train) // 2
    assert abs(train["label"][:half].mean() - 0.5) < 0.1
    assert abs(train["item"][:half].mean() - train["item"][half:].mean()) < 4


def test_a_user_with_every_item_is_an_error(tmp_path):
    log = Log(tmp_path, [("u", f"i{n}", n) for n in range(9)])
    with pytest.raises(Exception, match="almost all items"):
        log.prepare()
