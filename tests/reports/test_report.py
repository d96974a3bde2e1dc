import json
from html.parser import HTMLParser

import polars as pl
import pytest

from recsys.config.byte_sizes import format_bytes
from recsys.errors import RecsysError
from recsys.reports import evaluate_predictions, write_report
from recsys.reports.charts.figures import train_loss_title
from tests.reports.synthetic_run import CONFIG, make_training_record, write_run

VOID = {"meta", "br", "link", "img", "input", "hr"}


class Outline(HTMLParser):
    """Collects the attributes and checks that every element is closed in its turn."""

    def __init__(self):
        super().__init__()
        self.open, self.attributes = [], []

    def handle_starttag(self, tag, attrs):
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def read_page(run_dir):
    return (run_dir / "report.html").read_text(encoding="utf-8")


def test_report_json_has_the_stable_keys(run_dir):
    report = write_report(run_dir)
    assert json.loads((run_dir / "report.json").read_text()) == report
    assert report["format"] == 1
    assert (report["run"], report["model"], report["seed"]) == ("autoint_seed3", "autoint", 3)
    assert list(report["splits"]) == ["valid", "test"]
    assert list(report["splits"]["test"])[:9] == [
        "rows", "positives", "auc", "auc_ci95", "log_loss", "normalized_entropy",
        "calibration", "ece", "gauc",
    ]  # fmt: skip
    assert report["embeddings"] == make_training_record()["embeddings"]
    assert report["training"] == make_training_record()["training"]


def test_report_json_carries_the_measured_figures(run_dir):
    metrics = evaluate_predictions(run_dir / "predictions" / "test.parquet")
    found = write_report(run_dir)["splits"]["test"]
    assert found["auc"] == metrics.auc
    assert found["auc_ci95"] == list(metrics.auc_ci95)
    assert found["gauc_dropped_share"] == metrics.gauc_dropped_share


def test_slices_are_named_through_the_vocabulary(run_dir, dataset_dir):
    slices = write_report(run_dir, dataset_dir)["splits"]["test"]["slices"]
    names = {entry["id"]: entry["value"] for entry in slices["city"]}
    assert (names[1], names[5], names[0], names[None]) == ("Lyon", "<Cork>", None, None)
    assert all(entry["value"] is None for entry in slices["device"])  # has no vocabulary file


def test_the_page_is_well_formed_and_refers_to_nothing_outside(run_dir, dataset_dir):
    write_report(run_dir, dataset_dir)
    page, outline = read_page(run_dir), Outline()
    outline.feed(page)
    assert outline.open == []
    assert not {"src", "href", "action", "xlink:href"} & {name for name, _ in outline.attributes}
    assert all(word not in page for word in ("http", "<script", "@import", "url("))
    assert len(page) < 1_000_000


def test_the_page_escapes_what_the_data_say(run_dir, dataset_dir):
    (run_dir / "config.yaml").write_text("model: <b>&")
    write_report(run_dir, dataset_dir)
    page = read_page(run_dir)
    assert "&lt;Cork&gt;" in page
    assert "<Cork>" not in page
    assert "model: &lt;b&gt;&amp;" in page


def test_the_page_shows_the_figures_config_and_environment(run_dir, dataset_dir):
    test = write_report(run_dir, dataset_dir)["splits"]["test"]
    page = read_page(run_dir)
    for words in (f"test AUC {test['auc']:.4f}", "two_cities", "Lyon", "0123abc", "best 0.7463"):
        assert words in page
    assert CONFIG.strip() in page
    assert page.count("<svg") == 4


def test_titles_name_the_model_the_folder_of_the_dataset_and_the_run(run_dir, dataset_dir):
    dataset_dir = dataset_dir.rename(dataset_dir.with_name("cities_of_may"))
    report = write_report(run_dir, dataset_dir)
    assert report["dataset"]["folder"] == "cities_of_may"
    page = read_page(run_dir)
    place = f"{report['model']} on {dataset_dir.name}"
    assert f"<title>{place}, run {run_dir.name}</title>" in page
    assert f"<h1>{place}: test AUC" in page
    assert f"dataset {dataset_dir.name} (recipe two_cities)" in page
    assert ".\nEmbeddings:" in page
    assert write_report(run_dir)["dataset"]["folder"] is None
    assert f"<h1>{report['model']} on two_cities: test AUC" in read_page(run_dir)


def test_the_page_shows_the_warnings_and_dropped_rows_of_prepare(run_dir):
    path = run_dir / "schema.json"
    schema = json.loads(path.read_text())
    schema["warnings"] = [f"<{number}> is mostly unseen in test" for number in range(22)]
    schema["dropped_rows"] = {"no label": 1234}
    path.write_text(json.dumps(schema))
    facts = write_report(run_dir)["dataset"]
    assert (len(facts["warnings"]), facts["dropped_rows"]) == (22, {"no label": 1234})
    page = read_page(run_dir)
    assert "<td>dropped rows</td><td>1,234: no label</td>" in page
    assert page.count("is mostly unseen in test") == 20
    assert "<td>warning</td><td>&lt;0&gt; is mostly" in page
    assert "2 more are in schema.json" in page


def test_epochs_count_from_one_on_the_page(run_dir):
    report = write_report(run_dir)
    best, epochs = report["best_epoch"], report["training"]["epochs"]
    assert f"<td>best epoch</td><td>{best + 1} of {epochs}</td>" in read_page(run_dir)


@pytest.mark.parametrize(
    ("values", "title"),
    [
        ((0.5, 0.9), "Training loss of single batches"),
        ((0.9, 0.5, *[0.4] * 4, 0.6, 0.5), "fell from 0.700 to 0.550 nats"),
        ((0.4, 0.4, *[0.1] * 4, 0.6, 0.5), "rose from 0.400 to 0.550 nats"),
    ],
)
def test_the_title_compares_means_of_the_training_loss_not_single_batches(values, title):
    assert title in train_loss_title(values)


def test_the_page_compares_memory_with_full_tables_and_names_shared_ones(run_dir):
    write_report(run_dir)
    page = read_page(run_dir)
    served = 64 * (48_211 + 13 + 4)
    assert f"Embeddings: {format_bytes(served)} to serve, 25.0 % of full tables." in page
    assert "300 B of the bytes to serve are projections, masks and indices." in page
    assert f"would take {format_bytes(4 * served)} to serve; these are 25.0 % of that" in page
    assert "Shared table places (832 B): read by city, device, counted for city." in page
    assert page.count('<td class="number">25.0 %</td>') == 3  # each feature


def test_a_record_without_a_baseline_still_has_a_page(run_dir):
    record = make_training_record()
    embeddings = record["embeddings"]
    for key in ("full_table_bytes", "share_of_full_tables", "shared_tables"):
        del embeddings[key]
    for feature in embeddings["features"].values():
        for key in ("table_bytes", "parameter_bytes", "full_table_bytes"):
            del feature[key]
    (run_dir / "training.json").write_text(json.dumps(record))
    assert write_report(run_dir)["embeddings"]["serve_bytes"] == embeddings["serve_bytes"]
    assert "full tables" not in read_page(run_dir).replace("Serve ÷<br>full table", "")


def test_the_same_run_gives_the_same_bytes(run_dir):
    write_report(run_dir)
    first = read_page(run_dir)
    write_report(run_dir)
    assert read_page(run_dir) == first


def test_many_features_are_cut_on_the_page_and_whole_in_the_json(tmp_path):
    run_dir = write_run(tmp_path / "run", features=200)
    assert len(write_report(run_dir)["embeddings"]["features"]) == 200
    assert "140 smaller features" in read_page(run_dir)


def test_a_split_of_one_class_still_has_a_page(run_dir):
    path = run_dir / "predictions" / "test.parquet"
    pl.read_parquet(path).filter(pl.col("label") == 0).write_parquet(path)
    report = write_report(run_dir)
    assert report["splits"]["test"]["auc"] is None
    assert "only negatives" in read_page(run_dir)


@pytest.mark.parametrize("log", [None, "", "epoch,step\n0,1\n", "step,train/loss\n5,nan\n"])
def test_without_learning_curves_the_page_has_no_such_figures(run_dir, log):
    if log is None:
        (run_dir / "metrics.csv").unlink()
    else:
        (run_dir / "metrics.csv").write_text(log)
    assert write_report(run_dir)["learning_curves"] == {}
    assert read_page(run_dir).count("<svg") == 2


def test_a_curve_of_one_point_is_not_drawn(run_dir):
    (run_dir / "metrics.csv").write_text("step,valid/auc\n9,0.7\n")
    assert write_report(run_dir)["learning_curves"]["valid/auc"]["value"] == [0.7]
    assert read_page(run_dir).count("<svg") == 2


def test_long_learning_curves_are_thinned_by_averaging(run_dir):
    steps = pl.DataFrame({"step": range(1000), "train/loss": [0.25, 0.75] * 500})
    steps.write_csv(run_dir / "metrics.csv")
    curve = write_report(run_dir)["learning_curves"]["train/loss"]
    assert (curve["step"][0], curve["value"][0]) == (1.5, 0.5)  # the mean of the first four
    assert len(curve["step"]) == 250


@pytest.mark.parametrize(
    "name", ["config.yaml", "environment.json", "training.json", "schema.json"]
)
def test_a_missing_file_of_the_run_is_named(run_dir, name):
    (run_dir / name).unlink()
    with pytest.raises(RecsysError, match=name):
        write_report(run_dir)


@pytest.mark.parametrize("name", ["environment.json", "training.json", "schema.json"])
def test_a_damaged_file_of_the_run_is_named(run_dir, name):
    path = run_dir / name
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(RecsysError, match=name):
        write_report(run_dir)


def test_a_missing_key_of_the_training_record_is_named(run_dir):
    record = make_training_record()
    del record["embeddings"]["features"]["user"]["method"]
    (run_dir / "training.json").write_text(json.dumps(record))
    with pytest.raises(RecsysError, match=r"embeddings\.features\.user\.method"):
        write_report(run_dir)


def test_a_run_without_predictions_says_what_to_do(run_dir):
    for path in (run_dir / "predictions").iterdir():
        path.unlink()
    with pytest.raises(RecsysError, match="recsys evaluate"):
        write_report(run_dir)


def test_a_report_that_cannot_be_written_leaves_nothing_behind(run_dir):
    (run_dir / "report.html").mkdir()  # a folder is in the way
    with pytest.raises(RecsysError, match=r"report\.html"):
        write_report(run_dir)
    assert not list(run_dir.glob(".*"))
