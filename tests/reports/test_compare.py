import polars as pl
import pytest

from recsys.errors import RecsysError
from recsys.metrics import compare_aucs
from recsys.reports import compare_runs
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
