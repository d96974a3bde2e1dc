"""The GPU benchmark in toy sizes on the CPU: its code runs, and its record says what could not."""

import math

import pytest
import torch

from benchmarks.gpu import from_parquet, lookups, precision, steps
from benchmarks.gpu.__main__ import SHARES, parts_named
from benchmarks.gpu.setting import Setting
from benchmarks.gpu.tables import COLUMNS, to_markdown

SMALL = Setting(torch.device("cpu"), is_small=True, ends_at=math.inf)
PARTS = {"steps": steps, "lookups": lookups, "from_parquet": from_parquet, "precision": precision}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["steps", "lookups", "from_parquet"])
def test_a_part_measures_all_its_points(name, monkeypatch):
    monkeypatch.setattr(from_parquet, "MODELS", ["dcn_v2"])
    points = list(PARTS[name].points(SMALL))
    assert [point for point in points if "failed" in point] == []
    columns = COLUMNS[name]
    measured = [point for point in points if columns[-1] in point]
    assert measured
    assert all(set(columns) <= set(point) for point in measured)


def test_a_part_without_time_says_so():
    late = Setting(torch.device("cpu"), is_small=True, ends_at=-math.inf)
    points = list(steps.points(late))
    assert points
    assert {point["failed"] for point in points} == {"not tried: out of time"}


def test_a_failed_measurement_is_a_point_with_its_reason():
    def fail() -> dict:
        raise RuntimeError("CUDA out of memory.\n Tried to allocate")

    point = SMALL.attempt({"rows": 7}, fail)
    assert point == {"rows": 7, "failed": "CUDA out of memory. Tried to allocate"}


def test_the_record_names_what_ran_and_what_could_not():
    results = {
        "tests": {"summary": "3 passed", "lines": ["SKIPPED x"], "seconds": 1, "failed": None},
        "precision": {
            "points": [
                {"data": "d", "precision": "fp32", "seed": 0, "test_auc": 0.75, "log_loss": 0.5},
                {"data": "d", "precision": "bf16", "seed": 0, "failed": "no bf16"},
            ],
            "seconds": 2.0,
            "failed": None,
        },
        "steps": {"points": [], "seconds": 9.0, "failed": "ended after 9 s: out of time; x"},
    }
    text = to_markdown(results, "commit abc")
    assert text.startswith("commit abc")
    assert "| d | fp32 | 0 | 0.75 | 0.5 |" in text
    assert "- data d, precision bf16, seed 0, failed no bf16" in text
    assert "ended after 9 s: out of time" in text


def test_parts_are_chosen_by_name():
    assert parts_named("steps,tests") == ["steps", "tests"]
    assert set(PARTS) | {"tests"} == set(SHARES)
