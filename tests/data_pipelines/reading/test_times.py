"""The hour and weekday of time columns: `time` in a recipe."""

from datetime import UTC, date, datetime, timedelta, timezone

import numpy as np
import polars as pl
import pytest
import yaml

import data_pipelines
from data_pipelines import FrameEncoder, read_raw
from recsys.errors import RecsysError
from recsys.schema import Hour, Weekday, load_schema
from recsys.serving.encoders import RawEncoder
from tests.data_pipelines.events.event_logs import Log

TEXTS = [
    "2024-02-29T23:59:59.75",  # a Thursday
    "2024-03-03 00:00:00",  # a Sunday
    "2024-03-04",
    "2024-03-04T01:30:00+02:00",  # still Sunday in UTC
    "2024-03-04T23:30-0330",  # Tuesday in UTC
    "2024-03-05 07:15Z",
    None,
    "1999-12-31T12:00:00,5",
    "2024-03-09 08:00:00",
    "2024-03-10 09:00:00",
]
HOURS = [23, 0, 0, 23, 3, 7, None, 12, 8, 9]
WEEKDAYS = [4, 0, 1, 0, 2, 2, None, 5, 6, 0]
MOMENTS = [None if t is None else datetime.fromisoformat(t) for t in TEXTS]
SECONDS = [
    None if m is None else (m if m.tzinfo else m.replace(tzinfo=UTC)).timestamp() for m in MOMENTS
]
NAIVE = [
    None if s is None else datetime.fromtimestamp(s, UTC).replace(tzinfo=None) for s in SECONDS
]
TOKYO = pl.Series(NAIVE).dt.replace_time_zone("UTC").dt.convert_time_zone("Asia/Tokyo")
RECIPE = {
    "label": {"column": "label"},
    "time": {"columns": ["at"]},
    "min_count": 1,
    "split": {"method": "by_time", "fractions": [0.8, 0.1, 0.1]},
}


class Clicks:
    """Rows of (label, at) in a file of any format."""

    def __init__(self, folder):
        self.folder, self.out = folder, folder / "out"
        self.recipe = folder / "clicks.yaml"

    def prepare(self, values, suffix="csv", **changes):
        labels = [n % 2 for n in range(len(values))]
        frame = pl.DataFrame([pl.Series("label", labels), pl.Series(values).alias("at")])
        self.path = self.folder / f"rows.{suffix}"
        if suffix == "csv":
            frame.write_csv(self.path)
        else:
            frame.write_parquet(self.path)
            changes["file"] = {"format": "parquet"}
        self.recipe.write_text(yaml.safe_dump(RECIPE | changes))
        data_pipelines.prepare(str(self.recipe), [self.path], self.out)
        self.schema = load_schema(self.out)
        return self

    def tokens(self, name):
        """The rows' tokens, in the order of the file; missing or unseen is None."""
        files = [sorted(self.out.glob(f"{s}/*.parquet")) for s in ("train", "valid", "test")]
        ids = pl.concat([pl.read_parquet(f) for f in files])[name]
        table = pl.read_parquet(self.out / self.schema.feature(name).encoding.file)
        names = dict(table.select("id", "value").rows())
        return [names.get(i) for i in ids]

    def serve(self, raw):
        """Raw rows as the serving reader encodes them."""
        return RawEncoder(self.schema.features, self.out).encode(raw)


@pytest.fixture
def clicks(tmp_path):
    return Clicks(tmp_path)


@pytest.mark.parametrize(
    ("values", "suffix", "unit"),
    [
        (TEXTS, "csv", "s"),
        (SECONDS, "csv", "s"),
        ([None if s is None else int(s * 1000) for s in SECONDS], "csv", "ms"),
        ([None if s is None else int(s * 1e6) for s in SECONDS], "parquet", "us"),
        (TEXTS, "parquet", "ms"),
        (pl.Series(NAIVE, dtype=pl.Datetime("ns")), "parquet", "s"),
        (pl.Series(NAIVE, dtype=pl.Datetime("ms")), "parquet", "ms"),
        (TOKYO, "parquet", "s"),
    ],
)
def test_hours_and_weekdays_are_utc_for_all_forms_of_a_time(clicks, values, suffix, unit):
    clicks.prepare(values, suffix, time={"columns": ["at"], "unit": unit})
    train = slice(0, 8)
    assert clicks.tokens("at_hour")[train] == HOURS[train]
    assert clicks.tokens("at_weekday")[train] == WEEKDAYS[train]
    features = {f.name: (f.kind, f.column, f.transform) for f in clicks.schema.features}
    assert features == {
        "at_hour": ("categorical", "at", Hour(unit=unit)),
        "at_weekday": ("categorical", "at", Weekday(unit=unit)),
    }
    served = clicks.serve(pl.DataFrame([pl.Series(values).alias("at")]))
    for split, rows in (("train", slice(0, 8)), ("valid", slice(8, 9)), ("test", slice(9, 10))):
        written = pl.read_parquet(sorted(clicks.out.glob(f"{split}/*.parquet")))
        assert written.select(served.columns).equals(served[rows])


def test_raw_rows_are_encoded_as_they_were_written_and_as_serving_does(clicks):
    clicks.prepare(TEXTS)
    raw = pl.concat(read_raw(clicks.schema, [clicks.path]))
    encoded = FrameEncoder(clicks.schema, clicks.out).encode(raw)
    assert encoded.select("at_hour", "at_weekday").equals(clicks.serve(raw))
    assert clicks.serve(raw).equals(clicks.serve(pl.DataFrame({"at": TEXTS})))


def test_dates_have_a_weekday(clicks):
    days = pl.Series([date(2024, 3, 3) + timedelta(days=n) for n in range(10)])
    clicks.prepare(days, "parquet", time={"columns": ["at"], "parts": ["weekday"]})
    assert clicks.tokens("at_weekday") == [0, 1, 2, 3, 4, 5, 6, 0, 1, 2]
    assert [f.name for f in clicks.schema.features] == ["at_weekday"]


def test_random_times_agree_with_the_calendar_of_python_in_both_readers(clicks):
    generator = np.random.default_rng(5)
    seconds = generator.integers(315_532_800, 7_258_118_400, 300).tolist()
    zones = [timezone(timedelta(minutes=int(m))) for m in generator.integers(-900, 900, 300)]
    moments = [datetime.fromtimestamp(s, z) for s, z in zip(seconds, zones, strict=True)]
    clicks.prepare([m.isoformat() for m in moments], split="random")
    raw = pl.concat(read_raw(clicks.schema, [clicks.path]))
    assert raw["at"].to_list() == seconds
    served = clicks.serve(pl.DataFrame({"at": [m.isoformat() for m in moments]}))
    for name, own in (("at_hour", "%H"), ("at_weekday", "%w")):
        table = pl.read_parquet(clicks.out / clicks.schema.feature(name).encoding.file)
        names = dict(table.select("id", "value").rows())
        expected = [int(m.astimezone(UTC).strftime(own)) for m in moments]
        assert sum(i > 0 for i in served[name]) > 280
        assert [names.get(i, e) for i, e in zip(served[name], expected, strict=True)] == expected


@pytest.mark.parametrize(
    ("value", "unit"),
    [
        ("20141021", "s"),
        ("14102100", "s"),
        ("0", "s"),
        ("1970-01-01", "s"),
        ("1709510400000", "s"),
        ("1709510400", "ms"),
        ("2024-02-30", "s"),
        ("2024-03-04 25:00", "s"),
        ("yesterday", "s"),
        ("nan", "s"),
    ],
)
def test_invalid_times_are_refused_with_their_row(clicks, value, unit):
    with pytest.raises(RecsysError, match=rf"(?s)rows.csv, data row 2.*'{value}'.*time.unit"):
        clicks.prepare(["2024-03-04", value], time={"columns": ["at"], "unit": unit})


@pytest.mark.parametrize("value", ["20141021", 0, 1709510400000, "1970-01-01", "yesterday"])
def test_serving_refuses_invalid_times(clicks, value):
    clicks.prepare(TEXTS)
    with pytest.raises(RecsysError, match=r"(?s)at_hour: a raw value is not a date or time.*'at'"):
        clicks.serve(pl.DataFrame({"at": [value]}))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"categorical": {"columns": ["at"]}}, "duplicate column 'at'"),
        ({"time": {"columns": ["when"]}}, "column 'when' not found"),
        ({"time": {"columns": ["at"], "parts": ["minute"]}}, "time.parts"),
    ],
)
def test_invalid_time_columns_are_refused(clicks, changes, words):
    with pytest.raises(RecsysError, match=words):
        clicks.prepare(TEXTS, **changes)


def test_a_column_with_the_name_of_a_feature_is_refused(tmp_path):
    rows = tmp_path / "rows.csv"
    rows.write_text("label,at,at_hour\n1,2024-03-04,1\n0,2024-03-05,2\n")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(RECIPE | {"categorical": {"columns": ["at_hour"]}}))
    with pytest.raises(RecsysError, match="duplicate feature name 'at_hour'"):
        data_pipelines.prepare(str(recipe), [rows], tmp_path / "out")


def test_time_features_have_options_and_the_column_may_be_the_splits(clicks):
    clicks.prepare(
        TEXTS[:6] + TEXTS[7:],
        split={"method": "by_time", "column": "at", "boundaries": ["2024-03-05", "2024-03-10"]},
        per_feature={"at_hour": {"encoding": {"kind": "hash", "cardinality": 11}}},
    )
    hour = clicks.schema.feature("at_hour")
    assert hour.encoding.kind == "hash"
    assert hour.num_ids == 11
    assert {name: split.rows for name, split in clicks.schema.splits.items()} == {
        "train": 5, "valid": 3, "test": 1,
    }  # fmt: skip
    raw = pl.concat(read_raw(clicks.schema, [clicks.path]))
    encoded = FrameEncoder(clicks.schema, clicks.out).encode(raw)
    assert encoded["at_hour"].equals(clicks.serve(pl.DataFrame({"at": raw["at"]}))["at_hour"])


@pytest.mark.parametrize("unit", ["s", "ms"])
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_times_of_a_joined_table_are_read_in_the_same_way(tmp_path, suffix, unit):
    rows, users = tmp_path / "rows.csv", tmp_path / f"users.{suffix}"
    rows.write_text("label,user\n" + "".join(f"{n % 2},u{n % 4}\n" for n in range(10)))
    moments = [datetime(2024, 3, 3 + n, 5 * n) for n in range(4)]
    table = pl.DataFrame({"user": [f"u{n}" for n in range(4)], "at": moments})
    table.write_csv(users) if suffix == "csv" else table.write_parquet(users)
    recipe = tmp_path / "recipe.yaml"
    changes = {
        "join": [{"files": "users*", "key": "user"}],
        "time": {"columns": ["at"], "unit": unit},
    }
    recipe.write_text(yaml.safe_dump(RECIPE | changes))
    schema = data_pipelines.prepare(str(recipe), [rows, users], tmp_path / "out")
    assert schema.joins[0].unmatched == 0
    raw = pl.concat(read_raw(schema, [rows, users]))
    encoded = RawEncoder(schema.features, tmp_path / "out").encode(raw)
    expected = RawEncoder(schema.features, tmp_path / "out").encode(
        pl.DataFrame({"at": [moments[n % 4] for n in range(10)]})
    )
    assert encoded.equals(expected)
    table = pl.read_parquet(tmp_path / "out" / schema.feature("at_hour").encoding.file)
    hours = dict(table.select("id", "value").rows())
    assert [hours[i] for i in encoded["at_hour"]] == [5 * (n % 4) for n in range(10)]


def _events():
    start = datetime(2024, 3, 3)
    return [
        (f"u{u}", f"{'ab'[i % 2]}{(u * 7 + i * 3) % 11}", (start + timedelta(hours=5 * i + u)))
        for u in range(6)
        for i in range(6)
    ]


def test_targets_of_an_event_log_have_the_hour_and_weekday_of_their_event(tmp_path):
    log = Log(tmp_path, _events())
    schema = log.prepare("time.columns=[time]", "categorical.columns=[item, category]")
    raw = pl.concat(read_raw(schema, [log.csv]))
    assert raw.schema["time"] == pl.Float64
    seconds = {(u, i): m.replace(tzinfo=UTC).timestamp() for u, i, m in _events()}
    positives = raw.filter(pl.col("label") == 1)
    assert [seconds[key] for key in positives.select("user", "item").rows()] == positives[
        "time"
    ].to_list()
    encoded = FrameEncoder(schema, log.out).encode(raw)
    served = RawEncoder(schema.features, log.out).encode(raw)
    assert encoded.select(served.columns).equals(served)
    written = pl.concat([log.ids(split) for split in ("train", "valid", "test")])
    names = ["item", "time_hour", "time_weekday", "label"]
    assert written.select(names).sort(names).equals(encoded.select(names).sort(names))
    hours = pl.read_parquet(log.out / schema.feature("time_hour").encoding.file)
    by_id = dict(hours.select("id", "value").rows())
    expected = [int(s // 3600 % 24) for s in raw["time"]]
    assert [by_id.get(i, e) for i, e in zip(served["time_hour"], expected, strict=True)] == expected
    assert served["time_hour"].n_unique() > 5


def test_times_of_a_table_of_samples_are_read(tmp_path):
    log = Log(tmp_path, _events())
    schema = log.prepare("time.columns=[time]", "categorical.columns=[item, category]")
    raw = pl.concat(read_raw(schema, [log.csv]))
    texts = [datetime.fromtimestamp(s, UTC).isoformat() for s in raw["time"]]
    table = tmp_path / "samples.parquet"
    raw.with_columns(pl.Series("time", texts)).write_parquet(table)
    assert pl.concat(read_raw(schema, [table]))["time"].to_list() == raw["time"].to_list()


@pytest.mark.parametrize("column", ["user", "item"])
def test_users_and_items_of_a_log_cannot_be_time_columns(tmp_path, column):
    log = Log(tmp_path, _events())
    with pytest.raises(RecsysError, match=f"the column '{column}' cannot be a time column"):
        log.prepare(f"time.columns=[{column}]", "categorical.columns=[category]")
