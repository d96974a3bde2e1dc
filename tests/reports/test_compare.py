import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from recsys.cli.main import app
from recsys.errors import RecsysError
from recsys.metrics import compare_aucs
from recsys.reports import compare_runs, compare_runs_by_group, evaluate_predictions
from tests.reports.synthetic_run import write_run


def test_two_runs_on_the_same_rows(run_dir, tmp_path):
    other = write_run(tmp_path / "other")
    path = other / "predictions" / "test.parquet"
    table = pl.read_parquet(path)
    worse = table.with_columns(pl.col("logit") * pl.Series([1, -1] * (len(table) // 2)))
    worse.write_parquet(path)
    found = compare_runs(run_dir, other)
    columns = (table["logit"], worse["logit"].cast(pl.Float32), table["label"])
    assert found == compare_aucs(*(column.to_numpy() for column in columns))
    assert found.difference < 0
    assert found.p_value < 1e-6


def test_different_rows_are_refused(run_dir, tmp_path):
    other = write_run(tmp_path / "other", rows=1000)
    with pytest.raises(RecsysError, match="2000 and 1000 rows"):
        compare_runs(run_dir, other)


def test_gauc_is_compared_by_drawing_users_anew(run_dir, tmp_path):
    other = write_run(tmp_path / "other")
    path = other / "predictions" / "test.parquet"
    table = pl.read_parquet(path)
    noise = np.random.default_rng(0).normal(size=len(table)).astype(np.float32)
    table.with_columns(logit=pl.col("logit") + pl.Series(noise)).write_parquet(path)
    found = compare_runs_by_group(run_dir, other)
    gaucs = [
        evaluate_predictions(r / "predictions" / "test.parquet").gauc for r in (run_dir, other)
    ]
    assert [found.gauc_a, found.gauc_b] == pytest.approx(gaucs, abs=1e-12)
    assert found.difference == found.gauc_b - found.gauc_a
    assert found.ci95[0] < found.difference < found.ci95[1] < 0


def test_without_groups_there_is_no_gauc_to_compare(run_dir, tmp_path):
    other = write_run(tmp_path / "other")
    path = other / "predictions" / "test.parquet"
    pl.read_parquet(path).drop("group_id").write_parquet(path)
    assert compare_runs_by_group(run_dir, other) is None


def test_other_groups_are_refused(run_dir, tmp_path):
    other = write_run(tmp_path / "other")
    path = other / "predictions" / "test.parquet"
    pl.read_parquet(path).with_columns(pl.col("group_id") + 1).write_parquet(path)
    with pytest.raises(RecsysError, match="equal groups"):
        compare_runs_by_group(run_dir, other)


def test_the_command_prints_both_differences(run_dir, tmp_path):
    other = write_run(tmp_path / "other")
    result = CliRunner().invoke(app, ["compare", str(run_dir), str(other)])
    heading, first, second = result.stdout.splitlines()
    assert heading == f"test split; differences are {other} minus {run_dir}"
    assert first.startswith("AUC ")
    assert first.endswith("p = 1")
    assert second.startswith("GAUC ")
    assert "difference +0.00000 (95 % interval +0.00000 to +0.00000), from " in second
    assert second.endswith(" of 200 groups")
