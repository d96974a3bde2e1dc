"""Tables that do not fit: the message names the shortage, the features and lines that mend it."""

import re

import pytest
import yaml

from recsys.config.run import RunConfig
from recsys.config.yaml_files import apply_overrides
from recsys.distributed.planner.dry_run import DryRun
from recsys.distributed.planner.planner import find_plan
from recsys.distributed.planner.suggestions import plan_run
from recsys.errors import RecsysError

MB = 10**6
# rows of 16 floats and their accumulator: C1 68 MB, C2 13.6 MB
WHOLE = 1_200_010 * 17 * 4


def message(config, schema, cluster) -> str:
    with pytest.raises(RecsysError, match="do not fit") as caught:
        plan_run(config, schema, cluster)
    return str(caught.value)


def mended(config, text: str, title: str) -> RunConfig:
    """The config with the lines under `title`, read as YAML, as a user would write them."""
    lines = re.search(rf"{title}[^\n]*:\n((?:      embeddings\.[^\n]+\n?)+)", text)[1]
    overrides = [line.strip().replace(": ", "=", 1) for line in lines.strip().splitlines()]
    content = yaml.safe_load(yaml.safe_dump(config.model_dump(mode="json")))
    return RunConfig.model_validate(apply_overrides(content, overrides))


def test_the_shortage_is_what_the_tables_lack(make_config, schema, make_cluster):
    cluster = make_cluster(2, hbm_bytes=20 * MB, reserved_share=0)
    text = message(make_config(), schema, cluster)
    missing = float(re.search(r"([\d.]+) MB are missing on each", text)[1])
    # what the two devices hold, and under a megabyte of a step's buffers
    assert missing == pytest.approx((WHOLE / 2 - 20 * MB) / MB, abs=1)
    assert "at most 20 MB on each" in text


def test_features_come_largest_first_with_their_bytes(make_config, schema, make_cluster):
    text = message(make_config(), schema, make_cluster(2, hbm_bytes=20 * MB))
    named = re.findall(r"^ +(C\d) +(\S+ \S+)  full_table", text, re.MULTILINE)
    assert named == [("C1", "68 MB"), ("C2", "13.6 MB"), ("C3", "680 B")]


@pytest.mark.parametrize("title", ["narrower vectors", "fewer rows, by hashing", "tables in the"])
def test_a_printed_line_typed_into_the_config_makes_it_fit(
    title, make_config, schema, make_cluster
):
    config, cluster = make_config(), make_cluster(2, hbm_bytes=32 * MB)
    better = mended(config, message(config, schema, cluster), title)
    assert better != config
    find_plan(DryRun(better, schema, cluster).request())


def test_a_model_of_one_width_is_given_one_width(make_config, schema, make_cluster):
    config = make_config()
    model = {"name": "autoint", "attention_dim": 8}
    config = RunConfig.model_validate({**config.model_dump(mode="json"), "model": model})
    text = message(config, schema, make_cluster(2, hbm_bytes=32 * MB))
    assert re.search(r"embeddings\.default\.embedding_dim: (4|8)\n", text)
    assert "embedding_dim: 8}" not in text


def test_a_hashed_feature_is_given_fewer_buckets(make_config, schema, make_cluster):
    hashed = {"method": "hashed", "embedding_dim": 16, "num_buckets": 900_000, "num_hashes": 2}
    config = make_config(features={"C1": hashed})
    text = message(config, schema, make_cluster(2, hbm_bytes=32 * MB))
    line = re.search(r"C1: \{method: hashed, (.*)\}", text[text.index("fewer rows") :])[1]
    buckets = int(re.search(r"num_buckets: (\d+)", line)[1])
    assert buckets < 900_000
    assert "num_hashes: 2" in line


def test_the_number_of_devices_is_the_least_that_fits(make_config, schema, make_cluster):
    config = make_config()
    text = message(config, schema, make_cluster(2, hbm_bytes=20 * MB, devices_per_node=1))
    devices = int(re.search(r"--world-size (\d+) --devices-per-node 1", text)[1])
    larger = make_cluster(devices, hbm_bytes=20 * MB, devices_per_node=1)
    smaller = make_cluster(devices - 1, hbm_bytes=20 * MB, devices_per_node=1)
    assert DryRun(config, schema, larger).fits()
    assert not DryRun(config, schema, smaller).fits()


def test_a_shared_table_is_mended_at_its_owner(make_config, schema, make_cluster):
    c1, c2, c3 = schema.features
    shared = c1.model_copy(update={"cardinality": c2.cardinality})
    schema = schema.model_copy(update={"features": (shared, c2, c3)})
    config = make_config(features={"C1": {"shares_table_with": "C2"}})
    text = message(config, schema, make_cluster(2, hbm_bytes=5 * MB))
    assert "embeddings.features.C2: {method: hashed" in text
    assert "embeddings.features.C2.placement: {kernel: uvm_caching" in text
    assert "embeddings.features.C1" not in text


def test_on_cpu_the_hosts_memory_is_what_lacks(make_config, schema, make_cluster):
    cluster = make_cluster(2, device_type="cpu", host_bytes=100 * MB, devices_per_node=2)
    text = message(make_config(), schema, cluster)
    assert "2 × cpu" in text
    assert "uvm" not in text
    better = mended(make_config(), text, "narrower vectors")
    assert DryRun(better, schema, cluster).fits()


def test_the_plain_store_has_no_plan(make_config, schema, make_cluster):
    config = make_config(store="plain")
    with pytest.raises(RecsysError, match=r"(?s)plain store is not sharded.*81\.6 MB on each"):
        plan_run(config, schema, make_cluster())
