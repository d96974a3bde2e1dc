"""Warm start: vectors follow their values to a data set whose ids are others."""

import json
import shutil

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from recsys.embeddings.table_spec import NormalInit, TableSpec
from recsys.embeddings.tables.base import TableShard
from recsys.errors import RecsysError
from recsys.schema import Feature, HashEncoding, load_schema
from recsys.training.run_folder.folder import load_run_config
from recsys.training.run_folder.trained import build_model, load_trained
from recsys.training.run_folder.warm_start import (
    SameIds,
    copy_rows,
    describe,
    match_ids,
    warm_start,
)
from recsys.training.train import train
from tests.training.test_train import config_of

# The new shops: ids 1, 2, … in this order; 4, 9 and 19 have gone, three are new.
SHOPS = ["new-a", *(f"shop-{i}" for i in range(18, 0, -1) if i not in (4, 9)), "new-b", "new-c"]


@pytest.fixture(scope="module")
def old_run(tiny_dataset, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "old"
    train(config_of(tiny_dataset, "train.epochs=1"), run)
    return run


@pytest.fixture(scope="module")
def new_dataset(tiny_dataset, tmp_path_factory):
    """The same rows, but another vocabulary of shops."""
    folder = tmp_path_factory.mktemp("datasets") / "new"
    shutil.copytree(tiny_dataset, folder)
    ids = np.arange(1, len(SHOPS) + 1, dtype=np.int32)
    table = pa.table({"value": SHOPS, "id": ids, "count": np.ones(len(SHOPS), np.int64)})
    pq.write_table(table, folder / "vocabularies" / "shop.parquet")
    schema = json.loads((folder / "schema.json").read_text())
    for feature in schema["features"]:
        if feature["name"] == "shop":
            feature["cardinality"] = len(SHOPS) + 1
    (folder / "schema.json").write_text(json.dumps(schema))
    return folder


def start(old_run, dataset, *overrides, **options):
    """(report, warm model, the same model as it was before)."""
    config, schema = config_of(dataset, "train.seed=5", *overrides), load_schema(dataset)
    fresh, model = build_model(config, schema), build_model(config, schema)
    return warm_start(model, schema, dataset, old_run, **options), model, fresh


def tables_of(model):
    return model.embeddings.store.weights()


@pytest.mark.parametrize("store", ["fused", "plain"])
def test_a_value_takes_its_vector_along_and_a_new_one_stays_fresh(old_run, new_dataset, store):
    report, model, fresh = start(old_run, new_dataset, f"embeddings.store={store}")
    old = tables_of(load_trained(old_run).model)["shop"]
    expected = {0: old[0]}
    for new_id, value in enumerate(SHOPS, start=1):
        is_new = value.startswith("new")
        expected[new_id] = (
            tables_of(fresh)["shop"][new_id] if is_new else old[int(value.removeprefix("shop-"))]
        )
    rows = torch.stack([expected[i] for i in range(len(SHOPS) + 1)])
    assert torch.equal(tables_of(model)["shop"], rows)
    by_name = {feature.feature: feature for feature in report.features}
    shop = by_name["shop"]
    assert (shop.kept, shop.new, shop.dropped, shop.skipped) == (17, 3, 3, None)
    assert (by_name["item"].kept, by_name["item"].new) == (80, 0)


def test_what_has_not_changed_is_taken_over_whole(old_run, new_dataset):
    _, model, _ = start(old_run, new_dataset)
    old = tables_of(load_trained(old_run).model)
    assert all(torch.equal(tables_of(model)[name], old[name]) for name in ("color", "item"))


def test_the_network_is_copied_where_names_and_shapes_agree(old_run, new_dataset):
    report, model, fresh = start(old_run, new_dataset, "model.hidden_dims=[12]")
    old = load_trained(old_run).model.network.state_dict()
    now, before = model.network.state_dict(), fresh.network.state_dict()
    assert set(report.network_fresh) == {
        "model.mlp.0.weight",
        "model.mlp.0.bias",
        "model.head.weight",
    }
    assert all(torch.equal(now[name], old[name]) for name in report.network_copied)
    assert all(torch.equal(now[name], before[name]) for name in report.network_fresh)


def test_the_network_stays_fresh_on_demand(old_run, new_dataset):
    report, model, fresh = start(old_run, new_dataset, with_network=False)
    assert (report.network_copied, report.network_skipped) == ((), "not wanted")
    now, before = model.network.state_dict(), fresh.network.state_dict()
    assert all(torch.equal(now[name], before[name]) for name in now)


def test_what_cannot_be_taken_over_says_why(old_run, new_dataset):
    methods = (
        "embeddings.features={item: {method: full_table, embedding_dim: 4}, "
        "shop: {method: hashed, embedding_dim: 8, num_buckets: 6}}"
    )
    report, _, _ = start(old_run, new_dataset, methods)
    reasons = {feature.feature: feature.skipped for feature in report.features}
    assert reasons == {
        "color": None,
        "shop": "other method (full_table)",
        "history": None,
        "item": "other dim (8)",
    }
    text = describe(report)
    assert "other dim (8)" in text
    assert "5 kept" in text


HASHED = "embeddings.default={method: hashed, embedding_dim: 8, num_buckets: 4}"


def test_hashed_rows_are_taken_over_while_the_ids_stay(tiny_dataset, new_dataset, tmp_path):
    train(config_of(tiny_dataset, "train.epochs=1", HASHED), tmp_path / "old")
    report, model, _ = start(tmp_path / "old", new_dataset, HASHED)
    old = tables_of(load_trained(tmp_path / "old").model)
    assert torch.equal(tables_of(model)["item"], old["item"])
    reasons = {feature.feature: feature.skipped for feature in report.features}
    assert reasons["shop"] == "hashed mixes ids in a row, and the ids have changed"


def test_rows_of_other_hashes_are_not_taken_over(tiny_dataset, tmp_path):
    train(config_of(tiny_dataset, "train.epochs=1", HASHED), tmp_path / "old")
    common = HASHED.replace("num_buckets: 4", "num_buckets: 4, salts: common")
    with pytest.raises(RecsysError, match="item: other rows for the same ids"):
        start(tmp_path / "old", tiny_dataset, common)


def test_a_run_from_before_hashes_were_salted_by_feature_keeps_its_rows(tiny_dataset, tmp_path):
    common = HASHED.replace("num_buckets: 4", "num_buckets: 4, salts: common")
    train(config_of(tiny_dataset, "train.epochs=1", common), tmp_path / "old")
    file = tmp_path / "old" / "config.yaml"
    content = yaml.safe_load(file.read_text())
    vectors = load_trained(tmp_path / "old").model.embeddings.materialize("item")
    del content["embeddings"]["default"]["salts"]
    file.write_text(yaml.safe_dump(content))
    assert load_run_config(tmp_path / "old").embeddings.default.salts == "common"
    assert torch.equal(load_trained(tmp_path / "old").model.embeddings.materialize("item"), vectors)


def test_features_without_a_vocabulary_keep_their_ids_under_the_same_hash_rule(tmp_path):
    def hashed(cardinality):
        return Feature(
            name="shop",
            kind="categorical",
            column="shop",
            encoding=HashEncoding(),
            cardinality=cardinality,
        )

    ids = match_ids(hashed(50), tmp_path, hashed(50), tmp_path)
    assert isinstance(ids, SameIds)
    assert ids.is_identity
    assert match_ids(hashed(50), tmp_path, hashed(60), tmp_path) == "other hash rule (60 ids)"


@pytest.mark.parametrize(
    "ids",
    [
        SameIds(np.array([0, 2, 5, 7]), np.array([0, 9, 4, 6]), 8, 10),
        SameIds(np.arange(10), np.arange(10), 10, 10),
    ],
    ids=["moved", "all the same"],
)
def test_pieces_of_a_table_get_what_the_whole_table_gets(ids):
    old, fresh = torch.randn(ids.num_old, 8), torch.randn(10, 8)
    spec = TableSpec("t", 10, 8, NormalInit())
    whole, pieces = fresh.clone(), fresh.clone()
    copy_rows(old, TableShard(spec, 0, 0, whole), ids)
    for first_row, first_column in ((0, 0), (0, 4), (5, 0), (5, 4)):
        piece = pieces[first_row : first_row + 5, first_column : first_column + 4]
        copy_rows(old, TableShard(spec, first_row, first_column, piece), ids)
    assert torch.equal(whole, pieces)
    assert torch.equal(whole[ids.new], old[ids.old])


def test_a_run_that_shares_no_feature_is_refused(old_run, new_dataset):
    narrow = "embeddings.default.embedding_dim=4"
    with pytest.raises(RecsysError, match=r"no feature can be initialized(.|\n)*other dim"):
        start(old_run, new_dataset, narrow)


def test_a_run_without_weights_is_refused(old_run, new_dataset, tmp_path):
    shutil.copytree(old_run, tmp_path / "old", ignore=shutil.ignore_patterns("best-*"))
    with pytest.raises(RecsysError, match="no trained weights yet"):
        start(tmp_path / "old", new_dataset)
    with pytest.raises(RecsysError, match="not a run folder"):
        start(tmp_path / "nothing", new_dataset)


def test_an_old_data_set_that_has_changed_is_refused(old_run, new_dataset, tiny_dataset, tmp_path):
    moved, run = tmp_path / "moved", tmp_path / "old"
    shutil.copytree(tiny_dataset, moved)
    schema = (moved / "schema.json").read_text()
    (moved / "schema.json").write_text(schema.replace('"sha256":"', '"sha256":"0', 1))
    shutil.copytree(old_run, run)
    config = (run / "config.yaml").read_text().replace(str(tiny_dataset), str(moved))
    (run / "config.yaml").write_text(config)
    with pytest.raises(RecsysError, match="has changed since"):
        start(run, new_dataset)


def test_a_damaged_vocabulary_is_refused(old_run, new_dataset, tmp_path):
    dataset = tmp_path / "dataset"
    shutil.copytree(new_dataset, dataset)
    path = dataset / "vocabularies" / "shop.parquet"
    pl.read_parquet(path).head(3).write_parquet(path)
    with pytest.raises(RecsysError, match="does not belong to this dataset"):
        start(old_run, dataset)


def test_a_warm_run_starts_where_the_old_one_ended(old_run, new_dataset, tmp_path, capsys):
    options = ["train.epochs=1", f"train.warm_start={old_run}"]
    tiny_rates = [
        "train.dense_optimizer.learning_rate=1.0e-30",
        "train.embedding_optimizer={name: sgd, learning_rate: 1.0e-30}",
    ]
    train(config_of(new_dataset, *options, *tiny_rates), tmp_path / "warm")
    report = json.loads((tmp_path / "warm" / "warm_start.json").read_text())
    assert report["features"][1]["dropped"] == 3
    assert "3 dropped" in capsys.readouterr().err
    old, new = load_trained(old_run).model, load_trained(tmp_path / "warm").model
    assert torch.equal(tables_of(new)["item"], tables_of(old)["item"])


def test_a_wrong_warm_start_is_refused_before_a_folder_is_made(new_dataset, tmp_path):
    with pytest.raises(RecsysError, match="not a run folder"):
        train(config_of(new_dataset, f"train.warm_start={tmp_path}/nothing"), tmp_path / "run")
    assert not (tmp_path / "run" / "config.yaml").exists()
