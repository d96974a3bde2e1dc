"""How many rows a sample looks up, where features are sequences."""

import numpy as np
import pyarrow as pa
import pytest
import torch

from benchmarks.generated import HISTORIES, PAIR, lists_of, write_history_dataset
from recsys.config.run import RunConfig
from recsys.data.statistics import mean_lengths
from recsys.distributed.planner.description import describe_plan
from recsys.distributed.planner.dry_run import DryRun
from recsys.distributed.planner.suggestions import plan_run
from recsys.distributed.run_memory import count_run_bytes
from recsys.embeddings.build import build_embeddings
from recsys.embeddings.tables.sharded import sharded_groups
from recsys.models.base import pairs_of
from recsys.schema import load_schema

LENGTHS = np.array([3, 1, 4, 0])  # the empty one counts as 1: 9 ÷ 4
SGD = {"name": "sgd", "learning_rate": 0.1}
ATTENTION = {"roles": {"search": {"default": {"method": "full_table", "embedding_dim": 4}}}}


@pytest.fixture
def folder(tmp_path):
    columns = {name: np.ones(4, np.int32) for name in PAIR["target"]}
    columns |= {name: lists_of(np.ones(8, np.int32), LENGTHS) for name in PAIR["history"]}
    rows = pa.table({**columns, "label": np.array([0, 1, 0, 1], np.int8)})
    splits = {split: [rows] for split in ("train", "valid", "test")}
    return write_history_dataset(tmp_path / "rows", {"item": 9, "category": 5}, 4, splits)


def paper_run(folder, cluster, model, embeddings):
    table = {"method": "full_table", "embedding_dim": 4}
    shared = {name: {"shares_table_with": owner} for name, owner in HISTORIES.items()}
    config = RunConfig.model_validate(
        {
            "data": {"path": folder, "global_batch_size": 8},
            "embeddings": {"default": table, "features": shared, **embeddings},
            "model": {"name": model, "pairs": [PAIR]},
            "train": {"steps": 1, "dense_optimizer": SGD, "embedding_optimizer": SGD},
        }
    )
    return DryRun(config, load_schema(folder), cluster)


def test_lengths_are_those_of_the_train_rows(folder):
    schema = load_schema(folder)
    assert mean_lengths(schema, folder) == dict.fromkeys(PAIR["history"], 2.25)
    for file in schema.split("train").files:
        (folder / file.path).unlink()
    assert mean_lengths(schema, folder) == {}


def test_a_shared_table_is_read_by_the_target_and_its_history(folder, make_cluster):
    request = paper_run(folder, make_cluster(2), "din", {}).request()
    assert request.pooling_factors == {"item/rows": 3.25, "category/rows": 3.25}
    assert {look.key for look in request.lookups} == set(request.pooling_factors)


def test_tables_of_another_role_are_read_as_often(folder, make_cluster):
    request = paper_run(folder, make_cluster(2), "dare", ATTENTION).request()
    assert set(request.pooling_factors.values()) == {3.25}
    assert {look.key for look in request.lookups} == set(request.pooling_factors)


def test_longer_histories_cost_more_and_the_plan_says_why(folder, make_cluster, monkeypatch):
    run = paper_run(folder, make_cluster(2), "din", {})

    def plan():
        counted = count_run_bytes(run.config, run.schema)
        found = plan_run(run.config, run.schema, run.cluster)
        return describe_plan(found, run.embeddings(), counted)

    short = plan()
    assert any("3.2 for item/rows" in line for line in short.assumptions)
    longer = dict.fromkeys(PAIR["history"], 400.0)
    monkeypatch.setattr("recsys.distributed.planner.dry_run.mean_lengths", lambda *_: longer)
    assert plan().step_milliseconds > 2 * short.step_milliseconds


@pytest.mark.parametrize(("name", "l2"), [("dcn_v2", 0.1), ("dcn_v2", 0.0), ("mean_pooling", 0.0)])
def test_a_plan_numbers_its_tables_as_the_sharded_store_does(tiny_dataset, make_cluster, name, l2):
    pairs = {"pairs": [{"target": ["item"], "history": ["history"]}]}
    config = RunConfig.model_validate(
        {
            "data": {"path": tiny_dataset, "global_batch_size": 8},
            "embeddings": {"default": {"method": "full_table", "embedding_dim": 4}},
            "model": {"name": name, **(pairs if name == "mean_pooling" else {})},
            "train": {"steps": 1, "dense_optimizer": SGD, "embedding_optimizer": {**SGD, "l2": l2}},
        }
    )
    schema = load_schema(tiny_dataset)
    planned = DryRun(config, schema, make_cluster(2)).request()
    built = build_embeddings(
        config.embeddings,
        schema,
        config.train.embedding_optimizer,
        torch.device("cpu"),
        pairs=pairs_of(config.model),
        is_sharded=True,
    )
    groups = sharded_groups(built.store).values()
    numbered = sorted((i, table.name) for group in groups for i, table in group.numbered)
    assert numbered == list(enumerate(table.name for table in planned.tables))
    keys = sorted(look.key for group in groups for look in group.lookups)
    assert sorted(look.key for look in planned.lookups) == keys
