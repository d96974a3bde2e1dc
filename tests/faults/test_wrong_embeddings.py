"""Embeddings that cannot be as a user wrote them: one message, and no run folder."""

import json
import shutil

import pytest

from tests.faults.commands import files_below, run
from tests.tiny_dataset import write_tiny_dataset

FULL = "{method: full_table, embedding_dim: 8}"
# what is wrong → `embeddings`, and words of the message. color has 5 ids, shop 20, item 80
WRONG = {
    "quotient and remainder of a feature with few ids": (
        "features: {color: {method: compositional, embedding_dim: 8, "
        "partitions: {kind: quotient_remainder, num_remainders: 3}}}",
        ("color: these partitions save nothing", "5 rows", "full_below"),
    ),
    "partitions that leave ids without a difference": (
        "features: {item: {method: compositional, embedding_dim: 8, "
        "partitions: {kind: chinese_remainder, sizes: [7, 9]}}}",
        ("item", "63"),
    ),
    "remainders by sizes that share a factor": (
        "features: {item: {method: compositional, embedding_dim: 8, "
        "partitions: {kind: chinese_remainder, sizes: [10, 12]}}}",
        ("item", "cannot tell ids 0 and 60 apart", "not pairwise coprime"),
    ),
    "a share of rows below the least": (
        "features: {item: {method: compositional, embedding_dim: 8, "
        "partitions: {kind: quotient_remainder, row_share: 0.01}}}",
        ("cannot have so few rows", "a row_share of at least"),
    ),
    "a budget below a float for each id": (
        "features: {item: {method: mixed_dimension, embedding_dim: 8, temperature: 0.3, "
        "budget_share: 0.01}}",
        ("do not fit the budget", "where:    item", "at least 88 floats", "6 floats"),
    ),
    "one shared table with two widths": (
        "features: {item: {method: unified, embedding_dim: 8, num_rows: 30}, "
        "shop: {method: unified, embedding_dim: 4, num_rows: 30}}",
        ("unified", "8", "4"),
    ),
    "one shared table with two sizes": (
        "features: {item: {method: unified, embedding_dim: 8, num_rows: 30}, "
        "shop: {method: unified, embedding_dim: 8, num_rows: 40}}",
        ("unified", "30", "40"),
    ),
    "chunks that do not divide the width": (
        "features: {item: {method: unified, embedding_dim: 8, num_rows: 30, num_chunks: 3}}",
        ("num_chunks",),
    ),
    "a shared table whose reader has another width": (
        "features: {history: {shares_table_with: item, method: full_table, embedding_dim: 4}}",
        ("history has another method than item", "embedding_dim 8", "embedding_dim 4"),
    ),
    "more kept ids than there are": (
        "features: {item: {method: pruned, embedding_dim: 8, kept: 81}}",
        ("item: more ids are kept than there are", "80", "81"),
    ),
    "columns that are not there": (
        "features: {item: {method: pruned, embedding_dim: 8, dims: 9}}",
        ("dims up to embedding_dim, 8, not 9",),
    ),
    "bands that do not sum to one": (
        "features: {item: {method: dnis, embedding_dim: 8, bands: [0.5, 0.4]}}",
        ("the shares of the bands sum to 1",),
    ),
    "a band that goes beyond the ids": (
        "features: {item: {method: pruned, embedding_dim: 8, "
        "bands: [{first: 0, end: 90, dims: [0]}]}}",
        ("item: the bands do not fit its ids", "0 to 90"),
    ),
}


@pytest.mark.parametrize(("embeddings", "words"), WRONG.values(), ids=WRONG)
def test_embeddings_that_cannot_be_are_explained(config, tmp_path, embeddings, words):
    override = f"embeddings={{default: {FULL}, {embeddings}}}"
    assert run("train", config, override, "--out", tmp_path / "run").is_refusal(*words)
    assert files_below(tmp_path) == ["config.yaml"]


def test_several_widths_need_a_choice_where_a_model_needs_one(config, tmp_path):
    embeddings = f"embeddings={{default: {FULL}, features: {{item: {FULL.replace('8', '4')}}}}}"
    model = "model={name: autoint, attention_dim: 8}"
    outcome = run("train", config, embeddings, model, "--out", tmp_path / "run")
    assert outcome.is_refusal("item", "model.mixed_widths", "project", "pad")
    assert files_below(tmp_path) == ["config.yaml"]


@pytest.fixture(scope="session")
def allocation(tiny_dataset, tmp_path_factory):
    """A search's folder with an allocation in it; do not change it."""
    from tests.faults.conftest import write_config

    folder = tmp_path_factory.mktemp("searched")
    config = write_config(folder / "config.yaml", tiny_dataset)
    search = "search={name: dnis, budget_share: 0.5}"
    method = "embeddings.default={method: dnis, embedding_dim: 8, bands: 2}"
    command = ("search", config, method, search, "train.epochs=1", "--out", folder / "search")
    assert run(*command).code == 0
    return folder / "search" / "allocation.json"


def test_an_allocation_for_another_data_set_is_explained(config, allocation, tmp_path):
    write_tiny_dataset(tmp_path / "other", {"train": 601, "valid": 200, "test": 200})
    changes = (f"embeddings.allocation={allocation}", f"data.path={tmp_path / 'other'}")
    outcome = run("train", config, *changes, "--out", tmp_path / "run")
    assert outcome.is_refusal("another dataset", "fingerprint", "recsys search")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "change", ["model.hidden_dims=[8]", "model={name: autoint, attention_dim: 8}"]
)
def test_an_allocation_for_another_model_is_explained(config, allocation, tmp_path, change):
    allocated = f"embeddings.allocation={allocation}"
    outcome = run("train", config, allocated, change, "--out", tmp_path / "run")
    assert outcome.is_refusal("another model", str(allocation), "model.")
    assert files_below(tmp_path) == ["config.yaml"]


def test_an_allocation_with_unknown_features_is_explained(config, allocation, tmp_path):
    content = json.loads(allocation.read_text())
    content["features"]["itme"] = content["features"].pop("item")
    copy = shutil.copytree(allocation.parent, tmp_path / "search") / "allocation.json"
    copy.write_text(json.dumps(content))
    outcome = run("train", config, f"embeddings.allocation={copy}", "--out", tmp_path / "run")
    assert outcome.is_refusal("itme", "did you mean 'item'?")
    assert not (tmp_path / "run").exists()
