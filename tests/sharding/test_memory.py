"""What a run's embeddings take, before anything is allocated; a budget that they exceed."""

import pytest

from recsys.config.run import RunConfig, dump_config
from recsys.distributed.planner.description import describe_plan
from recsys.distributed.planner.dry_run import DryRun
from recsys.distributed.planner.suggestions import plan_run
from recsys.distributed.run_memory import check_run_budget, count_run_bytes
from recsys.errors import RecsysError

AUTOINT = {"name": "autoint", "attention_dim": 8, "mixed_widths": "project"}


def with_model(config: RunConfig, model: dict) -> RunConfig:
    return RunConfig.model_validate({**config.model_dump(mode="json"), "model": model})


def test_projections_count_for_the_feature_whose_width_differs(make_config, schema):
    narrow = {"C3": {"method": "full_table", "embedding_dim": 4}}
    config = with_model(make_config(features=narrow), AUTOINT)
    features = count_run_bytes(config, schema).features
    assert [facts.projection_bytes for facts in features.values()] == [0, 0, 4 * 16 * 4]
    assert features["C3"].serve_bytes == 10 * 4 * 4 + 4 * 16 * 4
    # the row and its accumulator; the matrix and Adam's two moments
    assert features["C3"].train_bytes == 10 * (4 + 1) * 4 + 3 * 4 * 16 * 4
    assert features["C3"].full_table_bytes == 10 * 16 * 4


def test_the_count_is_of_the_whole_however_the_tables_are_sharded(
    make_config, schema, make_cluster
):
    config, counts = make_config(features={"C1": {"placement": {"sharding": "row_wise"}}}), []
    for world_size in (2, 4):
        cluster = make_cluster(world_size)
        embeddings = DryRun(config, schema, cluster).embeddings()
        counted = count_run_bytes(config, schema)
        plan = describe_plan(plan_run(config, schema, cluster), embeddings, counted)
        counts.append((plan.train_bytes, plan.serve_bytes, plan.features))
    assert counts[0] == counts[1]
    assert counts[0][1] == 1_200_010 * 16 * 4


def test_a_shared_table_is_one_copy(make_config, schema):
    c1, c2, c3 = schema.features
    schema = schema.model_copy(
        update={"features": (c1.model_copy(update={"cardinality": 200_000}), c2, c3)}
    )
    counted = count_run_bytes(make_config(features={"C1": {"shares_table_with": "C2"}}), schema)
    assert counted.serve_bytes == counted.full_table_bytes == 200_010 * 16 * 4
    assert counted.shared_tables["C2"].charged_to == "C1"  # the first feature


def test_a_run_beyond_its_budget_is_refused(make_config, schema):
    check_run_budget(make_config(budget="76800640B"), schema)
    config = make_config(budget="76MB")
    with pytest.raises(RecsysError, match=r"(?s)take 801 kB more than .*C1 +64 MB .*C3 +640 B"):
        check_run_budget(config, schema)
    assert "budget: 76MB" in dump_config(config)
