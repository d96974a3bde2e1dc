"""A metric that is put in the list METRICS appears wherever metrics do."""

import json

import numpy as np
import polars as pl
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from recsys.errors import RecsysError
from recsys.metrics import METRICS, Metric, validation_metrics
from recsys.reports import write_report
from recsys.training.train import train
from tests.reports.synthetic_run import make_predictions, write_run
from tests.training.test_train import config_of


def compute_brier(logits, labels):
    return float(np.square(1 / (1 + np.exp(-logits)) - labels).mean())


def compute_largest_group(logits, labels, groups):
    assert logits.shape == labels.shape == groups.shape
    return float(np.unique(groups, return_counts=True)[1].max() / len(groups))


BRIER = Metric(
    name="brier",
    title="Brier score",
    definition="Mean squared error of the <probability>.",
    compute=compute_brier,
    better="lower",
    note="squared probability",
)
LARGEST_GROUP = Metric(
    name="largest_group",
    title="largest group",
    definition="Share of rows in the largest group.",
    compute=compute_largest_group,
    better="lower",
    needs_groups=True,
    at_validation=True,
)


@pytest.fixture(autouse=True)
def _in_the_list(monkeypatch):
    monkeypatch.setitem(METRICS, "brier", BRIER)
    monkeypatch.setitem(METRICS, "largest_group", LARGEST_GROUP)


def test_it_is_in_report_json_beside_the_others(tmp_path):
    run_dir = write_run(tmp_path / "run")
    found = write_report(run_dir)["splits"]["test"]
    table = pl.read_parquet(run_dir / "predictions" / "test.parquet")
    expected = (table["probability"].cast(pl.Float64) - table["label"]).pow(2).mean()
    assert found["brier"] == pytest.approx(expected, abs=1e-6)
    assert found["largest_group"] == table["group_id"].value_counts()["count"].max() / len(table)
    assert json.loads((run_dir / "report.json").read_text())["splits"]["test"] == found


def test_it_is_on_the_page_with_its_note_and_definition(tmp_path):
    run_dir = write_run(tmp_path / "run")
    brier = write_report(run_dir)["splits"]["test"]["brier"]
    page = (run_dir / "report.html").read_text()
    assert (
        f'<h3>Brier score</h3><p class="value">{brier:.4f}</p><p class="note">squared probability'
    ) in page
    assert "<dt>Brier score</dt><dd>Mean squared error of the &lt;probability&gt;.</dd>" in page
    assert page.count('<th class="number">Largest group</th>') == 1


def test_a_metric_of_groups_is_left_out_of_a_page_without_groups(tmp_path):
    run_dir = write_run(tmp_path / "run")
    for path in (run_dir / "predictions").iterdir():
        make_predictions(500, seed=0).write_parquet(path)
    assert write_report(run_dir)["splits"]["test"]["largest_group"] is None
    page = (run_dir / "report.html").read_text()
    assert "Brier score" in page
    assert "Largest group" not in page
    assert "GAUC" not in page


def test_the_page_shows_the_curve_of_the_monitored_metric(tmp_path):
    run_dir = write_run(tmp_path / "run")
    record = json.loads((run_dir / "training.json").read_text())
    (run_dir / "training.json").write_text(json.dumps(record | {"monitor": "brier"}))
    (run_dir / "metrics.csv").write_text("step,valid/brier\n9,0.3\n18,0.1\n27,0.2\n")
    write_report(run_dir)
    page = (run_dir / "report.html").read_text()
    assert "Valid Brier score was best at step 18" in page
    assert "best 0.1000" in page


@pytest.mark.slow
def test_it_can_choose_the_best_weights_and_is_logged(tiny_dataset, tmp_path, capsys):
    config = config_of(tiny_dataset, "train.monitor=brier")
    train(config, tmp_path)
    log = pl.read_csv(tmp_path / "metrics.csv")
    values = log["valid/brier"].drop_nulls().to_list()
    assert len(values) == 3
    assert "valid/calibration" not in log.columns  # neither monitored nor at each validation
    record = json.loads((tmp_path / "training.json").read_text())
    assert record["best_valid_brier"] == pytest.approx(min(values))
    assert record["best_epoch"] == values.index(min(values))
    assert f"Brier score {values[0]:.5f}" in capsys.readouterr().err
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    logged = [event.value for event in events.Scalars("valid/brier")]
    assert logged == pytest.approx(values, rel=1e-6)


def test_the_message_for_an_unknown_monitor_lists_every_metric(tiny_dataset):
    with pytest.raises(RecsysError) as caught:
        config_of(tiny_dataset, "train.monitor=brire")
    message = str(caught.value)
    assert "unknown monitor 'brire'" in message
    assert ", ".join(METRICS) in message
    assert "did you mean 'brier'?" in message


def test_by_default_a_validation_computes_auc_log_loss_and_what_asks_for_it():
    assert [m.name for m in validation_metrics("auc")] == ["auc", "log_loss", "largest_group"]
    assert [m.name for m in validation_metrics("ece")][-2:] == ["ece", "largest_group"]


@pytest.mark.parametrize(
    ("name", "worse", "best"),
    [("auc", 0.6, 0.7), ("log_loss", 0.6, 0.5), ("calibration", 0.9, 1.05), ("brier", 0.3, 0.2)],
)
def test_which_of_two_values_is_better(name, worse, best):
    goodness = METRICS[name].goodness
    assert goodness(best) > goodness(worse)
