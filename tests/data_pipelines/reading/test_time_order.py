"""The order of times in splits and histories."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
import yaml

import data_pipelines
from data_pipelines.reading.times import order_times
from recsys.errors import RecsysError

START = datetime(2017, 11, 8, 16, tzinfo=UTC)


def prepare(folder, times, boundaries, **changes):
    recipe = {
        "label": {"column": "label"},
        "categorical": {"columns": ["a"]},
        "min_count": 1,
        "split": {"method": "by_time", "column": "t", "boundaries": boundaries},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe | changes))
    count = len(times)
    frame = pl.DataFrame({"label": [n % 2 for n in range(count)], "a": ["x"] * count, "t": times})
    frame.write_csv(folder / "rows.csv")
    out = folder / "out"
    schema = data_pipelines.prepare(str(folder / "recipe.yaml"), [folder / "rows.csv"], out)
    return [split.rows for split in schema.splits.values()]


@pytest.mark.parametrize("unit", [1, 1_000, 1_000_000])
def test_boundaries_are_dates_whatever_the_unit_of_the_column(tmp_path, unit):
    times = [int((START + timedelta(hours=n)).timestamp()) * unit for n in range(20)]
    boundaries = ["2017-11-08 20:00:00", "2017-11-09T08:00:00+08:00"]
    names = {1: "s", 1_000: "ms", 1_000_000: "us"}
    assert prepare(tmp_path, times, boundaries, time={"unit": names[unit]}) == [4, 4, 12]


def test_a_wrong_unit_is_named_with_the_range_of_times(tmp_path):
    times = [int(START.timestamp()) * 1000 + n for n in range(9)]
    with pytest.raises(RecsysError) as error:
        prepare(tmp_path, times, ["2017-11-08", "2017-11-09"])
    assert "the split 'train' is empty" in str(error.value)
    assert "the times are 1510156800000 to 1510156800008" in str(error.value)
    assert "time.unit" in str(error.value)


def test_boundaries_in_descending_order_are_refused(tmp_path):
    with pytest.raises(RecsysError, match="ascending order"):
        prepare(tmp_path, [1, 2, 3], ["2018-01-01", "2017-01-01"])


@pytest.mark.parametrize(
    "text",
    [
        *("2017-11-08 16:00:00", "2017-11-08T16:00:00Z", "2017/11/08 16:00", "1510156800"),
        *("2017-11-09T00:00:00+08:00", "2017-11-08 16:00:00 UTC", "1510156800.0"),
    ],
)
def test_all_forms_of_a_time_have_the_same_order(tmp_path, text):
    others = ["2017-11-08", "1510156801"]
    found = order_times(pl.Series("t", [text, *others]), "s", tmp_path).to_list()
    assert found == [1510156800.0, 1510099200.0, 1510156801.0]


@pytest.mark.parametrize("text", ["08/11/2017", "8.11.2017", "nan", "inf", "2017-13-01", "Nov 8"])
def test_ambiguous_dates_are_refused_with_their_row(tmp_path, text):
    with pytest.raises(RecsysError) as error:
        order_times(pl.Series("t", ["2017-11-08", text]), "s", tmp_path, 11)
    assert "data row 12" in str(error.value)
    assert repr(text) in str(error.value)


def test_a_missing_time_is_named(tmp_path):
    with pytest.raises(RecsysError, match="'t' has no value"):
        order_times(pl.Series("t", ["2017-11-08", None]), "s", tmp_path, 1)
