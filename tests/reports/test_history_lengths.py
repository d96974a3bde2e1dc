import numpy as np
import polars as pl
import pytest

from recsys.errors import RecsysError
from recsys.metrics import compute_auc, compute_grouped_auc
from recsys.reports import evaluate_predictions, write_report
from recsys.reports.history_lengths import compute_history_lengths
from tests.reports.synthetic_run import make_predictions

LENGTHS = [0, 1, 2, 3, 5, 6, 10, 11, 20, 21, 50, 51, 100, 101, 9000]


def with_lengths(path, **columns):
    table = pl.read_parquet(path)
    rng = np.random.default_rng(0)
    lengths = rng.geometric(0.1, len(table)).astype(np.int32) - 1
    columns = {f"history_length/{name}": lengths + extra for name, extra in columns.items()}
    table.with_columns(**columns).write_parquet(path)
    return lengths


def test_every_length_falls_into_its_bucket():
    labels = np.zeros(len(LENGTHS), bool)
    found = compute_history_lengths(labels.astype(float), labels, np.array(LENGTHS), None)
    assert [(bucket.low, bucket.high, bucket.rows) for bucket in found] == [
        (0, 0, 1), (1, 2, 2), (3, 5, 2), (6, 10, 2), (11, 20, 2), (21, 50, 2), (51, 100, 2),
        (101, None, 2),
    ]  # fmt: skip
    assert [bucket.behaviors for bucket in found][:2] == ["0", "1 – 2"]
    assert found[-1].behaviors == "101 or more"


def test_a_bucket_has_the_auc_and_gauc_of_its_rows():
    table = make_predictions(rows=3000, seed=4, groups=60)
    labels = table["label"].to_numpy() == 1
    logits, groups = table["logit"].to_numpy(), table["group_id"].to_numpy()
    lengths = np.random.default_rng(1).integers(0, 4, 3000)
    found = compute_history_lengths(logits, labels, lengths, groups)
    assert sum(bucket.rows for bucket in found) == 3000
    assert sum(bucket.positives for bucket in found) == labels.sum()
    chosen = (lengths == 1) | (lengths == 2)
    assert found[1].auc == compute_auc(logits[chosen], labels[chosen])
    grouped = compute_grouped_auc(logits[chosen], labels[chosen], groups[chosen])
    assert (found[1].gauc, found[1].gauc_groups_used) == (grouped.value, grouped.groups_used)


def test_one_class_and_no_groups_have_no_figures():
    found = compute_history_lengths(np.zeros(3), np.ones(3, bool), np.zeros(3, int), None)
    assert (found[0].auc, found[0].auc_ci95, found[0].gauc) == (None, None, None)


def test_the_report_shows_them_once_for_features_of_one_history(run_dir):
    path = run_dir / "predictions" / "test.parquet"
    lengths = with_lengths(path, item_history=0, category_history=0, searches=3)
    report = write_report(run_dir)["splits"]
    assert list(report["test"]["history_lengths"]) == ["item_history", "searches"]
    assert report["valid"]["history_lengths"] == {}
    first = report["test"]["history_lengths"]["item_history"][0]
    assert (first["low"], first["high"], first["rows"]) == (0, 0, int((lengths == 0).sum()))
    page = (run_dir / "report.html").read_text()
    assert "item_history: AUC" in page
    assert "<td>1 – 2</td>" in page


def test_predictions_without_histories_have_none(run_dir):
    write_report(run_dir)
    assert "behaviors" not in (run_dir / "report.html").read_text()


def test_lengths_must_be_whole_numbers(run_dir):
    path = run_dir / "predictions" / "test.parquet"
    with_lengths(path, item_history=0.5)
    with pytest.raises(RecsysError, match="history_length/item_history"):
        evaluate_predictions(path)
