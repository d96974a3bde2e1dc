import numpy as np
import polars as pl
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from recsys.errors import RecsysError
from recsys.reports import evaluate_predictions
from tests.reports.synthetic_run import make_predictions


def write(path, **columns):
    pl.DataFrame(columns).write_parquet(path)
    return path


@pytest.fixture
def predictions(tmp_path):
    table = make_predictions(rows=3000, seed=4, groups=200)
    table.write_parquet(tmp_path / "test.parquet")
    return tmp_path / "test.parquet", table


def test_figures_equal_scikit_learn(predictions):
    path, table = predictions
    metrics = evaluate_predictions(path)
    assert metrics.rows == 3000
    assert metrics.positives == table["label"].sum()
    assert metrics.auc == pytest.approx(roc_auc_score(table["label"], table["logit"]), abs=1e-12)
    expected = log_loss(table["label"], table["probability"].cast(pl.Float64))
    assert metrics.log_loss == pytest.approx(expected, abs=1e-6)  # float32 probabilities
    mean_label = table["label"].mean()
    assert metrics.calibration == pytest.approx(table["probability"].mean() / mean_label, rel=1e-5)


def test_a_slice_is_the_auc_of_its_rows_and_frequent_values_come_first(predictions):
    path, table = predictions
    slices = evaluate_predictions(path).slices["city"]
    for entry in slices[:-1]:
        rows = table.filter(pl.col("slice/city") == entry.id)
        assert entry.rows == len(rows)
        assert entry.auc == pytest.approx(roc_auc_score(rows["label"], rows["logit"]), abs=1e-12)
    assert slices[-1].id is None
    assert sum(entry.rows for entry in slices) == 3000
    assert [e.rows for e in slices[:-1]] == sorted((e.rows for e in slices[:-1]), reverse=True)


def test_rare_values_go_with_the_others(tmp_path):
    ids = [1] * 60 + [2] * 49 + [3] * 3
    path = write(
        tmp_path / "p.parquet", label=[0, 1] * 56, logit=[0.5, -0.5] * 56, **{"slice/C1": ids}
    )
    slices = evaluate_predictions(path).slices["C1"]
    assert [(entry.id, entry.rows) for entry in slices] == [(1, 60), (None, 52)]


def test_without_groups_and_slices_there_are_none(tmp_path):
    path = write(tmp_path / "p.parquet", label=[0, 1, 1], logit=[0.0, 1.0, -1.0])
    metrics = evaluate_predictions(path)
    assert (metrics.gauc, metrics.gauc_groups, metrics.slices) == (None, None, {})


def test_one_class_has_no_auc_and_says_why(tmp_path):
    path = write(tmp_path / "p.parquet", label=[0, 0], logit=[0.0, 1.0])
    metrics = evaluate_predictions(path)
    assert (metrics.auc, metrics.auc_reason) == (None, "only negatives")
    assert metrics.roc == ()
    assert metrics.calibration is None
    assert metrics.log_loss > 0


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"label": [0, 1], "logit": [0.0, float("nan")]}, "row 1 is the first"),
        ({"label": [0, 1], "logit": [0.0, float("inf")]}, "NaN or infinite"),
        ({"label": [0, 1], "logit": [0.0, None]}, "1 of 2 rows"),
        ({"label": [0, 3], "logit": [0.0, 1.0]}, "neither 0 nor 1"),
        ({"label": [0, None], "logit": [0.0, 1.0]}, "neither 0 nor 1"),
        ({"label": [0, 1]}, "no column 'logit'"),
        ({"logit": [0.0, 1.0]}, "no column 'label'"),
        ({"label": [0, 1], "logit": [0.0, 1.0], "group_id": ["a", "b"]}, "group ids"),
        ({"label": [0, 1], "logit": [0.0, 1.0], "slice/C1": [0.5, 1.5]}, "slice/C1"),
        ({"label": [], "logit": np.array([], np.float32)}, "no rows"),
    ],
)
def test_wrong_predictions_are_refused_by_name(tmp_path, columns, message):
    with pytest.raises(RecsysError, match=message):
        evaluate_predictions(write(tmp_path / "p.parquet", **columns))


def test_a_missing_file_says_what_writes_it(tmp_path):
    with pytest.raises(RecsysError, match="recsys evaluate"):
        evaluate_predictions(tmp_path / "test.parquet")


def test_a_truncated_file_is_named(predictions):
    path, _ = predictions
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(RecsysError, match=r"test\.parquet"):
        evaluate_predictions(path)
