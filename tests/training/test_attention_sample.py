"""What evaluation keeps of attention, from models as they are initialized."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

from recsys.data.loader import BatchLoader
from recsys.distributed.build import build_on_ranks
from recsys.distributed.context import Ranks, join_ranks
from recsys.embeddings.combine import FeatureVectors
from recsys.embeddings.methods.base import EmbeddingKey
from recsys.evaluation import attention_sample
from recsys.evaluation.attention_sample import feature_alone
from recsys.evaluation.score import evaluate_split
from recsys.history_pair import HistoryPair
from recsys.layers.history import History
from recsys.models.network import history_of
from recsys.reports import write_report
from recsys.reports.attention.sampled import read_sample
from recsys.schema import load_schema
from recsys.training.run_folder.folder import start_run_folder, write_json
from recsys.training.run_folder.trained import TrainedRun
from tests.ranks import run_on_ranks
from tests.reports.synthetic_run import make_training_record
from tests.training.test_histories import config_of


def run_of(dataset, run_dir, ranks, model, *overrides):
    """A run that was never trained."""
    config, schema = config_of(dataset, model, *overrides), load_schema(dataset)
    run_dir.mkdir(exist_ok=True)
    built = build_on_ranks(config, schema, ranks).model
    return TrainedRun(run_dir, config, schema, dataset, built.eval(), ranks)


def evaluated_on_rank(dataset, run_dir, model):
    with join_ranks(torch.device("cpu")) as ranks:
        evaluate_split(run_of(dataset, run_dir, ranks, model), "test")


@pytest.fixture
def run(request, tiny_dataset, tmp_path):
    ranks = Ranks(torch.device("cpu"))
    return run_of(tiny_dataset, tmp_path, ranks, getattr(request, "param", "dare"))


def sample_of(run):
    return pl.read_parquet(run.run_dir / "attention" / "test.parquet")


def test_predictions_say_how_long_each_history_is(run):
    found = pl.read_parquet(evaluate_split(run, "test"))
    rows = pl.read_parquet(sorted((run.dataset_dir / "test").glob("*.parquet")))
    assert found["history_length/history"].to_list() == rows["history"].list.len().to_list()


def test_the_sample_holds_ids_and_labels_of_the_rows(run):
    evaluate_split(run, "test")
    found = sample_of(run)
    rows = pl.read_parquet(sorted((run.dataset_dir / "test").glob("*.parquet")))
    assert found["target_id"].to_list() == rows["item"].to_list()
    assert found["history_ids"].to_list() == rows["history"].to_list()
    assert found["label"].to_list() == rows["label"].to_list()
    assert set(found["target"]) == {"item"}
    assert set(found["history"]) == {"history"}


def test_weights_and_ranks_are_the_models_own(run):
    evaluate_split(run, "test")
    (pair,) = read_sample(run.run_dir / "attention" / "test.parquet")
    data = run.config.data.model_copy(update={"global_batch_size": 200})
    loader = BatchLoader(run.dataset_dir, run.schema, "test", data, seed=0, shuffle=False)
    physical = run.model.embeddings.to_physical(next(iter(loader)))
    network = run.model.network
    with torch.no_grad():
        vectors, _ = run.model.embeddings(physical.lookups)
        history = history_of(network.pairs[0], vectors, network.columns)
        weights = network.model.attention_weights(history).numpy()
        ranks, _ = network.model.retrieve(history, 20)
    assert pair.weights == pytest.approx(weights, abs=1e-6)
    assert np.array_equal(pair.retrieved, ranks.numpy())
    assert np.array_equal(pair.retrieved_by_feature, ranks.numpy())  # the pair has one feature
    sums = np.bincount(pair.behaviors.rows, pair.weights, 200)
    assert sums == pytest.approx((pair.behaviors.lengths > 0).astype(float), abs=1e-6)


@pytest.mark.parametrize("run", ["mean_pooling", "din"], indirect=True)
def test_what_a_model_does_not_offer_is_left_out(run):
    evaluate_split(run, "test")
    has_search = hasattr(run.model.network.model, "retrieve")
    assert ("retrieved" in sample_of(run).columns) == has_search
    assert has_search == (run.config.model.name == "din")


def test_a_model_without_attention_leaves_no_sample(tiny_dataset, tmp_path):
    overrides = ["model={name: dcn_v2, hidden_dims: [8]}", "embeddings.roles={}"]
    run = run_of(tiny_dataset, tmp_path, Ranks(torch.device("cpu")), "din", *overrides)
    found = pl.read_parquet(evaluate_split(run, "test"))
    assert "history_length/history" in found.columns  # pooled, and still in the target's ids
    assert not (tmp_path / "attention").exists()


def test_the_sample_is_spread_over_the_split_and_bounded(run, monkeypatch):
    monkeypatch.setattr("recsys.evaluation.score.MAX_ROWS", 70)
    evaluate_split(run, "test")
    rows = pl.read_parquet(sorted((run.dataset_dir / "test").glob("*.parquet")))
    expected = [*range(64), *range(128, 134)]  # batches 0 and 2 of 4, as many as there is room for
    assert sample_of(run)["target_id"].to_list() == rows["item"].gather(expected).to_list()


def test_long_histories_make_the_sample_shorter(run, monkeypatch):
    monkeypatch.setattr(attention_sample, "MAX_BEHAVIORS", 30)
    evaluate_split(run, "test")
    found = sample_of(run)["history_ids"].list.len()
    assert 25 < found.sum() <= 30


def test_the_report_has_what_attention_does(run):
    start = run.run_dir / "run"
    start_run_folder(start, run.config, run.schema)
    write_json(start / "training.json", make_training_record())
    evaluate_split(replace(run, run_dir=start), "test")
    report = write_report(start, run.dataset_dir)
    pair = report["attention"][0]
    assert (pair["target"], pair["history"], pair["rows"]) == ("item", "history", 200)
    assert pair["counted_rows"] == 1000
    assert pair["retrieval"]["rows_used"] == 0  # 80 items, 1,000 rows
    assert [entry["rank"] for entry in pair["by_rank"]] == [1, 2, 3, 4, 5]
    lengths = report["splits"]["test"]["history_lengths"]["history"]
    assert sum(bucket["rows"] for bucket in lengths) == 200
    assert "Attention to history" in (start / "report.html").read_text()


@pytest.mark.slow
@pytest.mark.distributed
def test_two_processes_keep_what_one_keeps(tiny_dataset, tmp_path):
    alone, together = tmp_path / "alone", tmp_path / "together"
    evaluate_split(run_of(tiny_dataset, alone, Ranks(torch.device("cpu")), "dare"), "test")
    together.mkdir()
    run_on_ranks(2, evaluated_on_rank, tiny_dataset, together, "dare")
    samples = [
        pl.read_parquet(folder / "attention" / "test.parquet").sort("target_id", "history_ids")
        for folder in (alone, together)
    ]
    assert len(samples[0]) == 200
    ids = ["target_id", "history_ids", "label"]
    assert samples[0][ids].sort(ids).equals(samples[1][ids].sort(ids))
    sums = [sample["weights"].list.sum().sum() for sample in samples]
    assert sums[0] == pytest.approx(sums[1], abs=1e-4)


def test_one_feature_alone_has_zeros_for_the_others():
    pair = HistoryPair(target=("item", "category"), history=("items", "categories"))
    shapes = {
        ("items", ""): (2, 4), ("categories", ""): (2, 2), ("item", "search"): (1, 1),
        ("category", "search"): (1, 3), ("items", "search"): (2, 1),
        ("categories", "search"): (2, 3),
    }  # fmt: skip
    unpooled = {EmbeddingKey(*key): torch.ones(shape) for key, shape in shapes.items()}
    unpooled["categories", ""] *= 2
    vectors = FeatureVectors(
        fields=torch.arange(1.0, 7.0).reshape(1, 6),
        unpooled=unpooled,
        lengths={"items": torch.tensor([2]), "categories": torch.tensor([2])},
        max_length=2,
    )
    columns = {"item": slice(0, 4), "category": slice(4, 6)}
    alone: History = feature_alone(history_of(pair, vectors, columns), pair, 1, vectors)
    assert alone.vectors.tolist() == [[0, 0, 0, 0, 2, 2]] * 2
    assert alone.target.tolist() == [[0, 0, 0, 0, 5, 6]]
    assert alone.keys.tolist() == [[0, 1, 1, 1]] * 2
    assert alone.query.tolist() == [[0, 1, 1, 1]]
