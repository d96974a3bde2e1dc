"""How configs are read, and what a user is told when one is wrong."""

import re

import pytest
import yaml

from recsys.config.run import RunConfig, dump_config, load_config
from recsys.config.yaml_files import apply_overrides, read_yaml
from recsys.errors import RecsysError

GOOD = """
data: {path: datasets/x, global_batch_size: 64}
embeddings:
  default: {method: full_table, embedding_dim: 8}
model: {name: dcn_v2}
train:
  epochs: 1
  dense_optimizer: {name: adam, learning_rate: 1e-3}
  embedding_optimizer: {name: rowwise_adagrad, learning_rate: 0.1}
"""


@pytest.fixture
def config_path(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(GOOD)
    return path


def test_a_file_and_its_overrides_become_one_config(config_path):
    config = load_config(config_path, ["train.epochs=3", "model.hidden_dims=[4, 2]"])
    assert config.train.epochs == 3
    assert config.model.hidden_dims == (4, 2)
    assert config.train.dense_optimizer.learning_rate == 1e-3  # YAML reads 1e-3 as text


def test_a_dumped_config_reads_back_to_an_equal_value(config_path, tmp_path):
    config = load_config(config_path)
    (tmp_path / "dumped.yaml").write_text(dump_config(config))
    assert load_config(tmp_path / "dumped.yaml") == config


def test_an_override_may_add_a_feature(config_path):
    override = "embeddings.features.C3={method: hashed, embedding_dim: 8, num_buckets: 9}"
    config = load_config(config_path, [override])
    assert config.embeddings.features["C3"].method.num_buckets == 9


def test_overrides_leave_the_original_alone():
    content = {"a": {"b": 1}}
    assert apply_overrides(content, ["a.b=2", "a.c=x"]) == {"a": {"b": 2, "c": "x"}}
    assert content == {"a": {"b": 1}}


# what is wrong: (overrides, what the message must hold)
BAD_OVERRIDES = {
    "unknown section": (["trian.epochs=1"], r"unknown key 'trian'.*did you mean 'train'"),
    "unknown key": (["train.epoch=1"], r"unknown key 'epoch'.*did you mean 'epochs'"),
    "unknown key in a union": (
        ["embeddings.default.embeding_dim=1"],
        r"'embeding_dim'.*did you mean 'embedding_dim'",
    ),
    "unknown key of a model": (["model.hiden_dims=[1]"], r"did you mean 'hidden_dims'"),
    "unknown method": (
        ["embeddings.default.method=hashd"],
        r"unknown method 'hashd'.*full_table, hashed.*did you mean 'hashed'",
    ),
    "unknown model": (["model.name=autoin"], r"unknown name 'autoin'.*did you mean 'autoint'"),
    "unknown optimizer": (["train.embedding_optimizer.name=adagrad"], r"rowwise_adagrad"),
    "value below its range": (["train.epochs=0"], r"train\.epochs.*greater than 0"),
    "value of another type": (["data.global_batch_size=many"], r"an integer.*many"),
    "missing key": (["model={}"], r"model"),
    "epochs and steps": (["train.steps=5"], r"train\.epochs or train\.steps"),
    "heads that do not divide": (
        ["model={name: autoint, attention_dim: 7}"],
        r"attention_dim 7 is not a multiple of num_heads 2",
    ),
    "clipping fused tables": (["train.gradient_clip_norm=1.0"], r"inside backward"),
    "not a number": (["train.dense_optimizer.learning_rate=.nan"], r"learning_rate"),
    "no override at all": (["train.epochs"], r"section\.key=value"),
    "override that is no YAML": (["train.epochs=[1"], r"invalid YAML\n.*train\.epochs"),
}


@pytest.mark.parametrize(("overrides", "message"), BAD_OVERRIDES.values(), ids=BAD_OVERRIDES)
def test_a_wrong_value_is_named_with_what_was_expected(config_path, overrides, message):
    with pytest.raises(RecsysError) as error:
        load_config(config_path, overrides)
    assert re.search(message, str(error.value), re.DOTALL), str(error.value)


BAD_FILES = {
    "no file": (None, "not found"),
    "duplicate key": (GOOD + "model: {name: autoint}\n", "duplicate key 'model'"),
    "broken YAML": ("data: {path: [", "invalid YAML"),
    "a list": ("- 1\n- 2\n", "is not a config"),
    "empty": ("", "is not a config"),
}


@pytest.mark.parametrize(("text", "message"), BAD_FILES.values(), ids=BAD_FILES)
def test_a_file_that_is_no_config_is_refused(tmp_path, text, message):
    path = tmp_path / "bad.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(RecsysError, match=message):
        load_config(path)


def test_every_committed_config_is_valid_and_a_complete_run(pytestconfig):
    paths = sorted((pytestconfig.rootpath / "configs").rglob("*.yaml"))
    runs = [path for path in paths if "model" in read_yaml(path)]
    assert len(runs) >= 6
    for path in runs:
        assert isinstance(load_config(path), RunConfig)


def test_the_json_schema_of_a_run_can_be_made():
    assert "embeddings" in yaml.safe_dump(RunConfig.model_json_schema())
