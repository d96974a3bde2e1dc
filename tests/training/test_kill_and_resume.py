"""Runs that are killed with -9 and resumed end with the bits of runs that are not."""

import pytest
import yaml

from benchmarks.exactness.folder_comparison import differences
from benchmarks.exactness.killing import (
    Forked,
    arguments,
    finish,
    in_checkpoint_write,
    in_decoding,
    in_making_the_folder,
    in_training,
    kill_and_resume,
)
from tests.training.test_train import config_of

pytestmark = pytest.mark.slow

# An epoch has 10 steps, and a checkpoint is taken every 4: some at the end of an epoch.
LENGTH = ["train.epochs=8", "train.checkpoint_every_steps=4", "train.log_every_steps=1"]
SCENARIOS = {
    "dcn_v2 on fused tables": (
        [],
        {
            "validation": in_training(20),
            "writing a checkpoint": in_checkpoint_write(31),
            "training": in_training(55, seconds=0.003),
        },
    ),
    "dare, whose attention has tables of its own": (
        [
            "embeddings.features.history.shares_table_with=item",
            "embeddings.roles.search.default={method: full_table, embedding_dim: 4}",
            "embeddings.roles.search.learning_rate=0.02",
            "model={name: dare, pairs: [{target: [item], history: [history]}], top_k: 3}",
        ],
        {"training": in_training(22), "writing a checkpoint": in_checkpoint_write(40)},
    ),
    "din on plain tables": (
        [
            "embeddings.features.history.shares_table_with=item",
            "embeddings.store=plain",
            "train.embedding_optimizer={name: adam, learning_rate: 0.01, mini_batch_l2: 0.01}",
            "model={name: din, pairs: [{target: [item], history: [history]}], dropout: 0.1, "
            "softmax: false}",
        ],
        {"validation": in_training(30), "training": in_training(47)},
    ),
    "autoint on plain tables": (
        [
            "model={name: autoint, attention_dim: 8, num_layers: 1, dropout: 0.1}",
            "embeddings.store=plain",
            "train.embedding_optimizer={name: adam, learning_rate: 0.01}",
            "train.validate_every_steps=12",
        ],
        {
            "making the folder": in_making_the_folder,
            "before the first checkpoint": in_decoding,
            "validation inside an epoch": in_training(36),
        },
    ),
}


@pytest.mark.parametrize(("overrides", "moments"), SCENARIOS.values(), ids=SCENARIOS)
def test_a_killed_run_resumes_to_the_same_bits(tiny_dataset, tmp_path, overrides, moments):
    config = tmp_path / "config.yaml"
    content = config_of(tiny_dataset, *LENGTH, *overrides).model_dump(mode="json")
    config.write_text(yaml.safe_dump(content))
    whole, killed = (tmp_path / name / "run" for name in ("whole", "killed"))
    finish(Forked, *arguments(config, whole, (), 0))
    kills = kill_and_resume(Forked, config, killed, moments, ())
    assert [kill["moment"] for kill in kills if not kill["killed"]] == []
    assert differences(whole.parent, killed.parent) == []
