"""`placement` in `embeddings.features`: valid values, the tables it applies to, refusals."""

import re

import pytest

from recsys.config.base import validate
from recsys.distributed.planner.choices import constraints, sharding_choices, table_placements
from recsys.distributed.planner.dry_run import DryRun
from recsys.distributed.planner.suggestions import plan_run
from recsys.embeddings.optimizers import AdamConfig, RowwiseAdagradConfig, SgdConfig
from recsys.embeddings.tables.placement import PlacementConfig
from recsys.errors import RecsysError

ADAGRAD, SGD, ADAM = (
    optimizer(learning_rate=0.1) for optimizer in (RowwiseAdagradConfig, SgdConfig, AdamConfig)
)


def test_one_sharding_may_be_written_without_brackets():
    assert PlacementConfig.model_validate({"sharding": "grid"}).sharding == ("grid",)
    two = {"sharding": ["table_wise", "data_parallel"]}
    assert PlacementConfig.model_validate(two).sharding == ("table_wise", "data_parallel")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"sharding": "rowwise"}, r"sharding"),
        ({"kernel": "gpu"}, r"kernel"),
        ({"shardings": "grid"}, r"did you mean 'sharding'"),
        ({"sharding": []}, r"sharding"),
        ({"cache_load_factor": 0.1}, r"only with kernel uvm_caching"),
        ({"kernel": "uvm_caching", "cache_load_factor": 1.0}, r"less than 1"),
        ({"kernel": "dense"}, r"dense only with sharding data_parallel"),
        ({"kernel": "dense", "sharding": "table_wise"}, r"dense only with"),
        ({"kernel": "uvm", "sharding": ["row_wise", "data_parallel"]}, r"no data_parallel with"),
    ],
)
def test_a_placement_that_means_nothing_is_refused(content, message):
    with pytest.raises(RecsysError, match=message):
        validate(PlacementConfig, content, "run.yaml")


def test_an_exact_name_wins_over_a_wildcard(make_config, schema, make_cluster):
    config = make_config(
        features={
            "C*": {"placement": {"sharding": "table_wise"}},
            "C2": {"placement": {"kernel": "uvm"}},
        }
    )
    methods = DryRun(config, schema, make_cluster()).embeddings().methods
    placements = table_placements(config.embeddings, methods)
    assert placements["C1"].sharding == placements["C3"].sharding == ("table_wise",)
    assert placements["C2"] == PlacementConfig(kernel="uvm")


def test_an_unknown_feature_gets_the_nearest_name(make_config, schema, make_cluster):
    config = make_config(features={"c3": {"placement": {"kernel": "uvm"}}})
    with pytest.raises(RecsysError, match=r"(?s)embeddings\.features\.c3.*did you mean 'C"):
        plan_run(config, schema, make_cluster())


def share(schema):
    """The schema with C2's ids equal to C1's."""
    c1, c2, c3 = schema.features
    c2 = c2.model_copy(update={"cardinality": c1.cardinality})
    return schema.model_copy(update={"features": (c1, c2, c3)})


def test_features_of_one_table_must_agree(make_config, schema, make_cluster):
    features = {
        "C1": {"placement": {"kernel": "uvm"}},
        "C2": {"placement": {"sharding": "table_wise"}, "shares_table_with": "C1"},
    }
    config = make_config(features=features)
    with pytest.raises(
        RecsysError, match=r"(?s)C1 and C2 share the table 'C1'.*drop the placement"
    ):
        plan_run(config, share(schema), make_cluster())


def test_a_feature_without_a_placement_takes_its_tables_owners(make_config, schema, make_cluster):
    config = make_config(
        features={"C2": {"shares_table_with": "C1", "placement": {"kernel": "uvm"}}}
    )
    methods = DryRun(config, share(schema), make_cluster()).embeddings().methods
    assert table_placements(config.embeddings, methods) == {"C1": PlacementConfig(kernel="uvm")}


@pytest.mark.parametrize(
    ("placement", "message"),
    [
        ({"sharding": "row_wise"}, "'C1': row_wise is not available on CPU"),
        ({"sharding": ["table_wise", "grid"]}, "'C1': grid is not available on CPU"),
        ({"kernel": "uvm"}, "'C1': kernel uvm is not available on CPU"),
        ({"kernel": "uvm_caching"}, "'C1': kernel uvm_caching is not available on CPU"),
    ],
)
def test_what_a_cpu_does_not_offer_is_refused(
    placement, message, make_config, schema, make_cluster
):
    config = make_config(features={"C1": {"placement": placement}})
    with pytest.raises(RecsysError, match=re.escape(message)):
        plan_run(config, schema, make_cluster(device_type="cpu"))


def test_a_grid_needs_several_nodes(make_config, schema, make_cluster):
    config = make_config(features={"C1": {"placement": {"sharding": "grid"}}})
    with pytest.raises(RecsysError, match="grid sharding needs several nodes"):
        plan_run(config, schema, make_cluster())


@pytest.mark.parametrize(
    ("optimizer", "device_type", "expected"),
    [
        (ADAGRAD, "cpu", {"table_wise", "data_parallel"}),
        (SGD, "cpu", {"table_wise", "column_wise", "data_parallel"}),
        (ADAM, "cuda", {"table_wise", "row_wise", "table_row_wise", "column_wise"}),
        (ADAGRAD, "cuda", {"table_wise", "row_wise", "table_row_wise", "data_parallel"}),
    ],
)
def test_the_planner_never_changes_the_optimizer_by_itself(
    optimizer, device_type, expected, make_config, schema, make_cluster
):
    cluster = make_cluster(world_size=16, device_type=device_type)
    (table, *_) = DryRun(make_config(), schema, cluster).request().tables
    assert set(sharding_choices(table, PlacementConfig(), optimizer, cluster)) == expected


@pytest.mark.parametrize(
    ("padded_dim", "world_size", "width"),
    [(16, 2, 8), (16, 4, 4), (16, 64, 4), (12, 2, 12), (12, 3, 4), (24, 4, 8), (4, 8, 4)],
)
def test_columns_are_cut_into_equal_parts_of_whole_quads(
    padded_dim, world_size, width, make_cluster
):
    cluster = make_cluster(world_size, devices_per_node=world_size)
    asked = PlacementConfig(sharding=("column_wise",))
    found = constraints(padded_dim, asked, ("column_wise",), cluster, [1.0])
    assert found.min_partition == width
