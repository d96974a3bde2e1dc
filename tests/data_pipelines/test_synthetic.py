"""The generated file: Criteo's format, and the truth of its model."""

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from data_pipelines import prepare
from data_pipelines.synthetic import PlantedTruth, generate_criteo, truth_path
from recsys.errors import RecsysError

ROWS = 20_000


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    path = tmp_path_factory.mktemp("synthetic") / "train.txt"
    return path, generate_criteo(path, ROWS, seed=3)


def test_the_file_has_criteos_columns(generated):
    path, truth = generated
    rows = [line.split("\t") for line in path.read_text().splitlines()]
    assert len(rows) == ROWS
    assert {len(row) for row in rows} == {40}
    assert [row[0] for row in rows] == [str(label) for label in truth.labels]
    assert {len(value) for row in rows for value in row[14:]} == {0, 8}
    assert any(row[2].startswith("-") for row in rows)


def test_the_planted_scores_equal_scikit_learns(generated):
    _, truth = generated
    probabilities = 1 / (1 + np.exp(-truth.logits))
    assert truth.auc() == pytest.approx(roc_auc_score(truth.labels, truth.logits), abs=1e-12)
    assert truth.log_loss() == pytest.approx(log_loss(truth.labels, probabilities), abs=1e-9)
    assert 0.75 < truth.auc() < 0.9
    assert truth.labels.mean() == pytest.approx(probabilities.mean(), abs=0.02)


def test_the_truth_is_in_the_folder_of_the_file(generated):
    path, truth = generated
    loaded = PlantedTruth.load(truth_path(path))
    assert (loaded.logits == truth.logits).all()
    assert (loaded.labels == truth.labels).all()


def test_the_same_seed_gives_the_same_file_and_another_seed_another(generated, tmp_path):
    path, _ = generated
    generate_criteo(tmp_path / "again", ROWS, seed=3)
    generate_criteo(tmp_path / "other", ROWS, seed=4)
    assert (tmp_path / "again").read_bytes() == path.read_bytes()
    assert (tmp_path / "other").read_bytes() != path.read_bytes()


def test_the_best_auc_of_a_split_is_that_of_its_rows(generated, tmp_path):
    path, truth = generated
    schema = prepare("criteo_kaggle", [path], tmp_path / "out")
    rows = np.random.default_rng(1).permutation(ROWS)[int(0.9 * ROWS) :]
    assert truth.split_auc(schema, "test") == pytest.approx(
        roc_auc_score(truth.labels[rows], truth.logits[rows]), abs=1e-12
    )
    test = pl.read_parquet(tmp_path / "out/test/*.parquet")
    assert test["label"].sum() == truth.labels[rows].sum()


def test_the_best_auc_of_a_split_needs_a_random_split(generated, tmp_path):
    path, truth = generated
    schema = prepare("criteo_kaggle", [path], tmp_path / "out", ["split.method=by_time"])
    with pytest.raises(RecsysError, match="random"):
        truth.split_auc(schema, "test")


def test_cardinalities_can_be_chosen(tmp_path):
    generate_criteo(tmp_path / "rows", 2000, cardinalities=(50,) * 26)
    table = pl.read_csv(tmp_path / "rows", separator="\t", has_header=False, infer_schema=False)
    assert max(table[name].n_unique() for name in table.columns[14:]) <= 51
