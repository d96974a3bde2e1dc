"""`embeddings.features`: which entry a setting comes from, and the keys that it replaced."""

import re

import pytest
import yaml

from recsys.config.base import validate
from recsys.config.run import RunConfig, dump_config, load_config, load_stored_config
from recsys.embeddings.config import EmbeddingsConfig, FeatureConfig
from recsys.embeddings.methods import MethodConfig
from recsys.embeddings.methods.full_table import FullTableConfig
from recsys.errors import RecsysError

FULL = {"method": "full_table", "embedding_dim": 8}
HASHED = {"method": "hashed", "embedding_dim": 8, "num_buckets": 9}


def section(features, **others) -> EmbeddingsConfig:
    return validate(EmbeddingsConfig, {"default": FULL, "features": features, **others}, "test")


def test_each_setting_comes_from_the_exact_name_then_the_first_wildcard_then_the_default():
    config = section(
        {
            "C*": HASHED,
            "*3": {"pooling": "sum", "placement": {"kernel": "uvm"}},
            "C3": {"placement": {"kernel": "fused"}},
            "*": {"pooling": "mean", "method": "full_table", "embedding_dim": 2},
        }
    )
    assert config.method_of("C3").method == "hashed"  # its own entry gives none, C* is the first
    assert config.pooling_of("C3") == "sum"  # C* gives none, *3 comes before *
    assert config.placement_of("C3").kernel == "fused"  # the exact name
    assert config.method_of("D3").embedding_dim == 2
    assert config.pooling_of("D") == "mean"
    assert config.placement_of("D") is None
    assert section({"C*": HASHED}).method_of("D") == FullTableConfig(embedding_dim=8)


def test_a_method_and_its_options_are_one_setting():
    config = section({"C3": FULL, "C*": HASHED})
    assert config.method_of("C3") == FullTableConfig(embedding_dim=8)  # no num_buckets of C*


def test_an_entry_is_written_flat_and_reads_back():
    entry = {**HASHED, "pooling": "sum", "placement": {"kernel": "uvm"}}
    config = section({"C3": entry, "C4": {"shares_table_with": "C3"}})
    dumped = config.model_dump(mode="json")["features"]
    assert dumped["C4"] == {"shares_table_with": "C3"}
    assert dumped["C3"].items() >= {**HASHED, "pooling": "sum"}.items()
    assert section(dumped) == config


def test_no_method_has_an_option_with_the_name_of_a_setting():
    for method in MethodConfig.__origin__.__args__:
        assert set(method.model_fields) & set(FeatureConfig.model_fields) == {"method"}


WRONG = {
    "a setting that does not exist": (
        {"C3": {"poling": "sum"}},
        "poling",
        "did you mean 'pooling'",
    ),
    "a setting beside a method": ({"C3": {**FULL, "poling": "sum"}}, "poling", "'pooling'"),
    "an option of another method": ({"C3": {**FULL, "num_buckets": 9}}, "num_buckets", "init"),
    "options without a method": ({"C3": {"embedding_dim": 4}}, "", "key 'method'"),
    "an option out of range": ({"C3": {**HASHED, "num_buckets": 0}}, "num_buckets", "greater than"),
    "an unknown method": ({"C3": {"method": "hashd"}}, "", "did you mean 'hashed'"),
    "a word for an entry": ({"C3": "hashed"}, "", "a map"),
    "a wrong placement": ({"C3": {"placement": {"kernl": 1}}}, "placement.kernl", "'kernel'"),
}


@pytest.mark.parametrize(("features", "key", "message"), WRONG.values(), ids=WRONG)
def test_a_wrong_entry_is_refused_with_its_key_as_it_is_written(features, key, message):
    with pytest.raises(RecsysError) as error:
        section(features)
    path = ".".join(part for part in ("features.C3", key) if part)
    assert re.search(rf"where: +test: {re.escape(path)}\n", str(error.value)), str(error.value)
    assert message in str(error.value)


OLD = {
    "per_feature": {"C*": HASHED, "C3": FULL},
    "pooling": {"tags": "sum", "*": "mean"},
    "placement": {"C3": {"sharding": "column_wise"}},
    "numerical_per_feature": {"I1": "raw"},
    "shared_tables": {"seen": "item"},
    "attention": {"default": FULL, "per_feature": {"item": HASHED}, "learning_rate": 0.1},
}
NEW = {
    "features": {
        "C3": {**FULL, "placement": {"sharding": "column_wise"}},
        "tags": {"pooling": "sum"},
        "I1": {"numerical": "raw"},
        "seen": {"shares_table_with": "item"},
        "C*": HASHED,
        "*": {"pooling": "mean"},
    },
    "roles": {"search": {"default": FULL, "features": {"item": HASHED}, "learning_rate": 0.1}},
}


def test_the_former_keys_give_the_same_config():
    former = validate(EmbeddingsConfig, {"default": FULL, **OLD}, "test")
    now = validate(EmbeddingsConfig, {"default": FULL, **NEW}, "test")
    assert former == now
    assert list(former.features) == list(now.features)


def test_former_and_new_keys_may_be_mixed_but_not_for_one_setting():
    mixed = section({"C3": {"pooling": "sum"}}, per_feature={"C3": HASHED})
    assert mixed == section({"C3": {**HASHED, "pooling": "sum"}})
    with pytest.raises(RecsysError, match=r"embeddings\.pooling\.C3 and embeddings\.features\.C3"):
        section({"C3": {"pooling": "sum"}}, pooling={"C3": "mean"})
    with pytest.raises(RecsysError, match=r"embeddings\.attention and .*roles\.search"):
        section({}, attention={"default": FULL}, roles={"search": {"default": FULL}})


def test_wildcards_in_two_orders_are_refused():
    former = {"per_feature": {"C*": FULL, "*3": HASHED}, "pooling": {"*3": "sum", "C*": "mean"}}
    with pytest.raises(RecsysError, match="in different orders"):
        section({}, **former)


@pytest.fixture
def run_yaml(tmp_path):
    content = {
        "data": {"path": "x", "global_batch_size": 64},
        "embeddings": {"default": FULL, **{k: v for k, v in OLD.items() if k != "attention"}},
        "model": {"name": "dcn_v2"},
        "train": {
            "epochs": 1,
            "dense_optimizer": {"learning_rate": 0.1},
            "embedding_optimizer": {"name": "rowwise_adagrad", "learning_rate": 0.1},
        },
    }
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def test_a_file_with_former_keys_is_read_with_one_hint_that_shows_the_new_ones(run_yaml, capsys):
    config = load_config(run_yaml)
    (line,) = capsys.readouterr().err.splitlines()
    shown = yaml.safe_load(line.partition("write embeddings: ")[2])
    assert shown == {"features": NEW["features"]}
    assert validate(EmbeddingsConfig, {"default": FULL, **shown}, "hint") == config.embeddings
    assert "embeddings.per_feature, embeddings.pooling" in line


def test_a_run_folders_config_has_the_new_keys_and_no_hint(run_yaml, tmp_path, capsys):
    config = load_stored_config(run_yaml)
    (tmp_path / "config.yaml").write_text(dump_config(config))
    assert load_config(tmp_path / "config.yaml") == config
    assert capsys.readouterr().err == ""
    assert not yaml.safe_load(dump_config(config))["embeddings"].keys() & OLD.keys()


def test_an_override_may_change_one_setting_of_a_feature(run_yaml):
    config = load_config(run_yaml, ["embeddings.features.C3.pooling=sum"])
    assert config.embeddings.features["C3"].pooling == "sum"
    assert config.embeddings.method_of("C3").method == "full_table"


@pytest.mark.parametrize("model", ["dare", "din"])
def test_roles_are_those_that_the_model_asks_for(run_yaml, model):
    roles = {} if model == "dare" else {"search": {"default": FULL}}
    pairs = [{"target": ["item"], "history": ["seen"]}]
    content = yaml.safe_load(run_yaml.read_text())
    content["embeddings"]["roles"] = roles
    content["model"] = {"name": model, "pairs": pairs}
    with pytest.raises(RecsysError, match=r"embeddings\.roles|of the role 'search'"):
        validate(RunConfig, content, "test")
    content["embeddings"]["roles"] = {"search": {"default": FULL}} if model == "dare" else {}
    validate(RunConfig, content, "test")
