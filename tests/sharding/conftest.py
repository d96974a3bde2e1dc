"""A data set on paper: a schema of three features, and a config that reads it."""

import pytest
import yaml

from recsys.config.run import RunConfig
from recsys.distributed.planner.cluster import Cluster
from recsys.schema import SCHEMA_FILE, Feature, HashEncoding, Schema

CARDINALITIES = {"C1": 1_000_000, "C2": 200_000, "C3": 10}
GB = 10**9
CONFIG = """
data: {path: unused, global_batch_size: 1024}
embeddings:
  default: {method: full_table, embedding_dim: 16}
model: {name: dcn_v2, hidden_dims: [8]}
train:
  epochs: 1
  dense_optimizer: {name: adam, learning_rate: 1.0e-3}
  embedding_optimizer: {name: rowwise_adagrad, learning_rate: 0.1}
"""


@pytest.fixture
def schema():
    features = [
        Feature(
            name=name,
            kind="categorical",
            column=name,
            encoding=HashEncoding(),
            cardinality=cardinality,
        )
        for name, cardinality in CARDINALITIES.items()
    ]
    return Schema(name="paper", features=tuple(features), splits={})


@pytest.fixture
def make_config():
    """A config with some of its embeddings section changed."""

    def make(**embeddings) -> RunConfig:
        content = yaml.safe_load(CONFIG)
        content["embeddings"] |= embeddings
        return RunConfig.model_validate(content)

    return make


@pytest.fixture
def make_cluster():
    def make(world_size=2, hbm_bytes=GB, device_type="cuda", **fields) -> Cluster:
        fields.setdefault("devices_per_node", min(8, world_size))
        return Cluster(
            world_size=world_size, hbm_bytes=hbm_bytes, device_type=device_type, **fields
        )

    return make


@pytest.fixture
def config_file(schema, tmp_path):
    """The config on disk, and beside it a data set folder with schema.json and nothing else."""
    dataset = tmp_path / "dataset"
    dataset.mkdir()
    (dataset / SCHEMA_FILE).write_text(schema.model_dump_json())
    path = tmp_path / "run.yaml"
    path.write_text(CONFIG.replace("unused", str(dataset)))
    return path
