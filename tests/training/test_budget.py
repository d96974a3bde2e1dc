"""A budget is checked before training, and what a run weighs is written down after it."""

import json

import pytest

from recsys.errors import RecsysError
from recsys.training import train as training
from tests.training.test_train import config_of


def test_a_run_beyond_its_budget_is_refused_before_its_tables_are_made(
    tiny_dataset, tmp_path, monkeypatch
):
    def build(*_):
        raise AssertionError("tables were made")

    monkeypatch.setattr(training, "build_on_ranks", build)
    config = config_of(tiny_dataset, "embeddings.budget=1KB")
    with pytest.raises(RecsysError, match=r"(?s)more than their budget.*at most 1KB to serve"):
        training.train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_within_its_budget_says_what_it_takes(tiny_dataset, tmp_path):
    overrides = [
        "train={steps: 1, dense_optimizer: {learning_rate: 0.1}, "
        "embedding_optimizer: {name: sgd, learning_rate: 0.1}}",
        "model={name: autoint, attention_dim: 8, num_layers: 1, mixed_widths: project}",
        "embeddings.features={color: {method: full_table, embedding_dim: 4}}",
        "embeddings.features.history.shares_table_with=item",
        "embeddings.budget=1MB",
    ]
    run = tmp_path / "run"
    training.train(config_of(tiny_dataset, *overrides), run)
    counted = json.loads((run / "training.json").read_text())["embeddings"]
    rows = {"color": 5 * 4, "shop": 20 * 8, "history": 80 * 8, "item": 0}
    assert {n: f["table_bytes"] for n, f in counted["features"].items()} == {
        name: floats * 4 for name, floats in rows.items()
    }
    assert counted["features"]["color"]["projection_bytes"] == 4 * 8 * 4
    assert counted["serve_bytes"] == sum(rows.values()) * 4 + 4 * 8 * 4
    assert counted["train_bytes"] == sum(rows.values()) * 4 + 3 * 4 * 8 * 4  # Adam's moments
    assert counted["full_table_bytes"] == (5 + 20 + 80) * 8 * 4
    assert counted["shared_tables"]["item"]["readers"] == ["history", "item"]
