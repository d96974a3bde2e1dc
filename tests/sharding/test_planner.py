"""The planner's answers: exact bytes, the same in every process, refusals."""

import json
import os
import subprocess
import sys

import pytest

from recsys.compat.torchrec_planner import EmbeddingEnumerator
from recsys.config.run import load_config
from recsys.distributed.planner.cluster import Cluster, this_cluster
from recsys.distributed.planner.description import PlanDescription, describe_plan
from recsys.distributed.planner.dry_run import DryRun
from recsys.distributed.planner.planner import DoesNotFitError, PlanRequest, find_plan, make_plan
from recsys.distributed.planner.proposals import step_milliseconds
from recsys.distributed.planner.suggestions import plan_run
from recsys.distributed.run_memory import count_run_bytes
from recsys.embeddings.optimizers import AdamConfig, RowwiseAdagradConfig, SgdConfig
from recsys.embeddings.table_spec import Lookup, NormalInit, TableSpec
from recsys.embeddings.tables.placement import PlacementConfig
from recsys.errors import RecsysError
from recsys.schema import load_schema

PATH = "embeddings.store.collection"
TABLES = [
    TableSpec("big", 1000, 16, NormalInit()),
    TableSpec("narrow", 100, 6, NormalInit()),  # padded to 8
]
LOOKUPS = [Lookup("a", "big"), Lookup("b/0", "narrow"), Lookup("b/1", "narrow")]


def plan_of(world_size, placements, optimizer=None, device_type="cpu", devices_per_node=None):
    cluster = Cluster(
        world_size=world_size,
        devices_per_node=devices_per_node or world_size,
        device_type=device_type,
        hbm_bytes=10**9,
    )
    optimizer = optimizer or RowwiseAdagradConfig(learning_rate=0.1)
    plan = make_plan(TABLES, LOOKUPS, optimizer, placements, cluster, 64, path=PATH)
    assert list(plan.plan) == [PATH]
    return plan.plan[PATH]


def shards_of(parameter):
    return [
        (tuple(s.shard_sizes), tuple(s.shard_offsets), s.placement.rank())
        for s in parameter.sharding_spec.shards
    ]


def test_tables_are_named_by_their_place_and_keyed_by_the_collections_path():
    plan = plan_of(2, {})
    assert sorted(plan) == ["t0", "t1"]


def test_a_table_wise_table_lies_whole_on_one_rank():
    plan = plan_of(
        2, {name: PlacementConfig(sharding=("table_wise",)) for name in ("big", "narrow")}
    )
    ((size_0, offset_0, rank_0),) = shards_of(plan["t0"])
    ((size_1, _, rank_1),) = shards_of(plan["t1"])
    assert (size_0, offset_0, size_1) == ((1000, 16), (0, 0), (100, 8))
    assert {rank_0, rank_1} == {0, 1}


def test_columns_are_split_when_asked_for():
    split = PlacementConfig(sharding=("column_wise",))
    plan = plan_of(2, {"big": split}, SgdConfig(learning_rate=0.1))
    pieces = shards_of(plan["t0"])
    assert [(size, offset) for size, offset, _ in pieces] == [
        ((1000, 8), (0, 0)),
        ((1000, 8), (0, 8)),
    ]
    assert sorted(rank for *_, rank in pieces) == [0, 1]


def test_a_data_parallel_table_has_no_shards():
    plan = plan_of(2, {"big": PlacementConfig(sharding=("data_parallel",), kernel="dense")})
    assert plan["t0"].sharding_type == "data_parallel"
    assert plan["t0"].compute_kernel == "dense"
    assert plan["t0"].sharding_spec is None


def test_a_grid_cuts_columns_over_nodes_and_rows_within_them():
    asked = PlacementConfig(sharding=("grid",))
    plan = plan_of(4, {"big": asked}, SgdConfig(learning_rate=0.1), "cuda", devices_per_node=2)
    sizes = [size for size, *_ in shards_of(plan["t0"])]
    assert plan["t0"].sharding_type == "grid_shard"
    assert sizes == [(500, 8)] * 4


def test_uvm_caching_carries_its_load_factor():
    asked = PlacementConfig(kernel="uvm_caching", cache_load_factor=0.25)
    plan = plan_of(2, {"big": asked}, device_type="cuda")
    assert plan["t0"].compute_kernel == "fused_uvm_caching"
    assert plan["t0"].cache_params.load_factor == 0.25


def test_the_optimiser_must_exist_on_the_device():
    with pytest.raises(RecsysError, match="no adam on this device"):
        plan_of(2, {}, AdamConfig(learning_rate=0.1))
    assert sorted(plan_of(2, {}, AdamConfig(learning_rate=0.1), "cuda")) == ["t0", "t1"]


def test_a_table_larger_than_a_device_does_not_fit_whole():
    tables = [TableSpec("huge", 10**8, 16, NormalInit())]  # 6.8 GB with its accumulators
    cluster = Cluster(world_size=8, devices_per_node=8, device_type="cuda", hbm_bytes=2 * 10**9)
    whole = {"huge": PlacementConfig(sharding=("table_wise",))}
    sgd, lookups = SgdConfig(learning_rate=0.1), [Lookup("a", "huge")]
    with pytest.raises(DoesNotFitError, match=r"do not fit on 8 × cuda"):
        find_plan(PlanRequest(tables, lookups, sgd, whole, cluster, 64))
    (option,) = find_plan(PlanRequest(tables, lookups, sgd, {}, cluster, 64)).options
    assert max(shard.storage.hbm for shard in option.shards) <= cluster.table_bytes


def test_more_rows_a_sample_take_longer(make_cluster):
    sgd, whole = SgdConfig(learning_rate=0.1), PlacementConfig(sharding=("table_wise",))
    placements = dict.fromkeys(("big", "narrow"), whole)
    times = []
    for factors in ({}, {"a": 50.0}):
        request = PlanRequest(TABLES, LOOKUPS, sgd, placements, make_cluster(2), 64, factors)
        times.append([step_milliseconds(option) for option in find_plan(request).options])
    assert times[1][0] > times[0][0]
    assert times[1][1] == times[0][1]


def test_a_cluster_of_cpus_is_this_machine_divided():
    cluster = this_cluster(4, 2, "cpu")
    assert cluster.num_nodes == 2
    assert cluster.table_bytes == int(cluster.host_bytes // 2 * 0.85)
    assert cluster.hbm_bytes == 0


def described(config, schema, cluster) -> PlanDescription:
    return describe_plan(
        plan_run(config, schema, cluster),
        DryRun(config, schema, cluster).embeddings(),
        count_run_bytes(config, schema),
    )


@pytest.mark.parametrize(
    ("optimizer", "state_floats"), [("rowwise_adagrad", 1), ("sgd", 0), ("adam", 32)]
)
def test_bytes_are_rows_with_their_optimisers_state(
    optimizer, state_floats, make_config, schema, make_cluster
):
    config = make_config(features={"C*": {"placement": {"sharding": "table_wise"}}})
    table_optimizer = {
        "rowwise_adagrad": RowwiseAdagradConfig,
        "sgd": SgdConfig,
        "adam": AdamConfig,
    }[optimizer](learning_rate=0.1)
    train = config.train.model_copy(update={"embedding_optimizer": table_optimizer})
    config = config.model_copy(update={"train": train})
    plan = described(config, schema, make_cluster(2))
    sizes = {entry.table: entry.shards[0].device_bytes for entry in plan.tables}
    # cardinality + 1 ids of a hashed encoding are `cardinality` rows
    expected = {
        feature.name: feature.num_ids * (16 + state_floats) * 4 for feature in schema.features
    }
    assert sizes == expected
    assert plan.train_bytes == sum(expected.values())
    assert sum(rank.device_bytes for rank in plan.ranks) == sum(expected.values())
    assert all(r.planned_bytes >= r.device_bytes for r in plan.ranks)


def test_a_replicated_table_counts_on_every_rank(make_config, schema, make_cluster):
    plan = described(
        make_config(features={"C3": {"placement": {"sharding": "data_parallel"}}}),
        schema,
        make_cluster(4),
    )
    entry = plan.tables[2]
    assert (entry.sharding, entry.kernel, entry.ranks) == ("data_parallel", "dense", (0, 1, 2, 3))
    assert [shard.device_bytes for shard in entry.shards] == [10 * 17 * 4] * 4


def test_column_parts_have_an_accumulator_each(make_config, schema, make_cluster):
    config = make_config(features={"C1": {"placement": {"sharding": "column_wise"}}})
    entry = described(config, schema, make_cluster(2)).tables[0]
    assert [s.device_bytes for s in entry.shards] == [1_000_000 * (8 + 1) * 4] * 2


def test_uvm_lies_on_the_host_and_its_cache_on_the_device(make_config, schema, make_cluster):
    placement = {"kernel": "uvm_caching", "cache_load_factor": 0.1, "sharding": "table_wise"}
    config = make_config(features={"C1": {"placement": placement}})
    entry = described(config, schema, make_cluster(2)).tables[0]
    (shard,) = entry.shards
    assert (entry.kernel, shard.host_bytes) == ("uvm_caching", 1_000_000 * 17 * 4)
    assert shard.device_bytes == 100_000 * 16 * 4


def test_on_cpu_all_bytes_are_the_hosts(make_config, schema, make_cluster):
    plan = described(make_config(), schema, make_cluster(2, device_type="cpu"))
    assert sum(rank.device_bytes for rank in plan.ranks) == 0
    assert sum(rank.host_bytes for rank in plan.ranks) >= 1_200_000 * 17 * 4


def test_totals_are_of_the_slowest_and_the_fullest_rank(make_config, schema, make_cluster):
    config = make_config(features={"C*": {"placement": {"sharding": "table_wise"}}})
    plan = described(config, schema, make_cluster(2))
    times = [rank.step_milliseconds for rank in plan.ranks]
    planned = [rank.planned_bytes for rank in plan.ranks]
    assert plan.step_milliseconds == max(times) > 0
    assert plan.time_imbalance == pytest.approx(max(times) / (sum(times) / 2), abs=1e-6)
    assert plan.memory_imbalance == pytest.approx(max(planned) / (sum(planned) / 2), abs=1e-6)
    assert plan.batch_size_per_rank == 512


SCRIPT = """
import sys
from pathlib import Path
from recsys.config.run import load_config
from recsys.schema import load_schema
from recsys.distributed.planner.cluster import Cluster
from recsys.distributed.planner.description import describe_plan
from recsys.distributed.planner.dry_run import DryRun
from recsys.distributed.run_memory import count_run_bytes
from recsys.distributed.planner.suggestions import plan_run
config = load_config(Path(sys.argv[1]))
schema = load_schema(config.data.path)
cluster = Cluster(world_size=16, devices_per_node=8, device_type="cuda", hbm_bytes=10**9)
found = plan_run(config, schema, cluster)
embeddings = DryRun(config, schema, cluster).embeddings()
counted = count_run_bytes(config, schema)
print(describe_plan(found, embeddings, counted).model_dump_json())
"""


def test_the_order_in_which_torchrec_enumerates_does_not_matter(
    make_config, schema, make_cluster, monkeypatch
):
    asked = {"C*": {"placement": {"sharding": ["table_wise", "row_wise"]}}}
    config, cluster = make_config(features=asked), make_cluster(2)
    forwards = described(config, schema, cluster)
    enumerate_options = EmbeddingEnumerator.enumerate
    monkeypatch.setattr(
        EmbeddingEnumerator, "enumerate", lambda *args, **kw: enumerate_options(*args, **kw)[::-1]
    )
    assert described(config, schema, cluster) == forwards


@pytest.mark.slow
def test_processes_with_other_hash_seeds_plan_the_same(config_file, make_cluster):
    config = load_config(config_file)
    schema = load_schema(config.data.path)
    here = described(config, schema, make_cluster(16)).model_dump_json()
    there = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(config_file)],
        env={**os.environ, "PYTHONHASHSEED": "1"},  # this process has another
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    assert there.strip() == here


def test_the_json_reads_back_to_an_equal_plan(make_config, schema, make_cluster, tmp_path):
    plan = described(make_config(), schema, make_cluster(2))
    plan.save(tmp_path / "plan.json")
    content = json.loads((tmp_path / "plan.json").read_text())
    assert content["format"] == 1
    assert set(content) == set(PlanDescription.model_fields)
    assert PlanDescription.model_validate(content) == plan
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]
