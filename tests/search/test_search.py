"""`recsys search` as a whole: supernet, allocation, training from it; resumed; refused."""

import json
import os
import shutil
import signal

import pytest
import torch

from benchmarks.exactness.folder_comparison import differences
from recsys.config.base import validate
from recsys.config.run import RunConfig, dump_config, load_config
from recsys.config.yaml_files import apply_overrides
from recsys.distributed.context import join_ranks
from recsys.embeddings.allocation import load_allocation
from recsys.errors import RecsysError
from recsys.evaluation.score import evaluate_split
from recsys.reports import write_report
from recsys.schema import load_schema
from recsys.search.scoring import Scorer
from recsys.search.search import search
from recsys.training.lightning.signals import StopOnSignal, StoppedBySignal
from recsys.training.run_folder.trained import build_model, load_trained
from recsys.training.train import train
from tests.ranks import run_on_ranks
from tests.tiny_dataset import write_tiny_dataset

pytestmark = pytest.mark.slow

SECTIONS = {
    "optembed": [
        "embeddings.default.method=optembed",
        "search={name: optembed, generations: 2, mutations: 3, crossovers: 3, budget_share: 0.5}",
        "search.threshold_learning_rate=0.01",
    ],
    "dnis": [
        "embeddings.default={method: dnis, embedding_dim: 8, bands: 2}",
        "search={name: dnis, budget_share: 0.5}",
    ],
}


def config_of(dataset, *overrides) -> RunConfig:
    content = {
        "data": {"path": str(dataset), "global_batch_size": 64},
        "embeddings": {"default": {"method": "full_table", "embedding_dim": 8}},
        "model": {"name": "dcn_v2", "hidden_dims": [16], "dropout": 0.1},
        "train": {
            "epochs": 2,
            "checkpoint_every_steps": 4,
            "early_stopping_patience": None,
            "dense_optimizer": {"name": "adam", "learning_rate": 5e-3},
            "embedding_optimizer": {"name": "rowwise_adagrad", "learning_rate": 0.1},
        },
    }
    return validate(RunConfig, apply_overrides(content, overrides), "test")


@pytest.fixture(scope="module", params=SECTIONS)
def searched(request, tiny_dataset, tmp_path_factory):
    """The folder of a finished search, by method."""
    out = tmp_path_factory.mktemp(request.param) / "search"
    search(config_of(tiny_dataset, *SECTIONS[request.param]), out)
    return out


def test_the_allocation_fits_the_budget_and_says_why(searched):
    allocation, methods = load_allocation(searched / "allocation.json")
    assert allocation.bytes <= 0.5 * allocation.full_bytes
    assert allocation.full_bytes == (5 + 20 + 80 + 80) * 8 * 4
    assert allocation.bytes == sum(f.bytes for f in allocation.features.values())
    assert set(methods) == {"color", "shop", "history", "item"}
    assert all(feature.why for feature in allocation.features.values())
    record = json.loads((searched / "search.json").read_text())
    assert record["supernet"] == allocation.supernet.model_dump()
    assert allocation.chosen.auc in [c["auc"] for c in record["candidates"]]
    assert "<svg" in (searched / "allocation.html").read_text()


def test_the_retrained_model_starts_from_the_supernets_initial_weights(searched, tmp_path):
    retrained = with_allocation(searched, tmp_path)
    small, full = (
        build_model(config, load_schema(config.data.path)).eval()
        for config in (retrained, load_config(searched / "supernet" / "config.yaml"))
    )
    state = full.network.state_dict()
    for name, value in small.network.state_dict().items():
        assert torch.equal(value, state[name])
    for feature in ("color", "shop", "history", "item"):
        kept = small.embeddings.materialize(feature)
        assert torch.equal(kept, full.embeddings.materialize(feature) * (kept != 0))


def test_features_of_another_kind_of_search_are_refused(tiny_dataset, tmp_path):
    other = "embeddings.features.shop={method: dnis, embedding_dim: 8}"
    config = config_of(tiny_dataset, *SECTIONS["optembed"], other)
    with pytest.raises(RecsysError, match=r"does not search features of method dnis(.|\n)*shop"):
        search(config, tmp_path / "search")
    assert not (tmp_path / "search").exists()


def with_allocation(searched, tmp_path, *overrides) -> RunConfig:
    path = tmp_path / "config.yaml"
    shutil.copy(searched / "supernet" / "config.yaml", path)
    return load_config(path, [f"embeddings.allocation={searched / 'allocation.json'}", *overrides])


def test_training_from_the_allocation_needs_nothing_but_its_run_folder(searched, tmp_path):
    config = with_allocation(searched, tmp_path)
    train(config, tmp_path / "run")
    (tmp_path / "config.yaml").unlink()
    trained = load_trained(tmp_path / "run")
    assert trained.config == config
    assert {m.name for m in trained.model.embeddings.methods.values()} == {"pruned"}
    allocation, _ = load_allocation(searched / "allocation.json")
    assert config.allocation.supernet == allocation.supernet
    facts = json.loads((tmp_path / "run" / "training.json").read_text())
    served = {name: f["serve_bytes"] for name, f in facts["embeddings"]["features"].items()}
    assert served == {name: f.bytes for name, f in allocation.features.items()}
    evaluate_split(trained, "test")
    report = write_report(tmp_path / "run", config.data.path)
    assert report["allocation"]["supernet"]["auc"] == allocation.supernet.auc
    page = (tmp_path / "run" / "report.html").read_text()
    assert f"supernet {allocation.supernet.auc:.4f}" in page


@pytest.mark.parametrize("moment", ["supernet", "candidates"])
def test_a_search_that_is_killed_goes_on_to_the_same_allocation(
    searched, tmp_path, monkeypatch, moment
):
    config, killed = load_config(searched / "supernet" / "config.yaml"), tmp_path / "killed"
    if moment == "supernet":
        die_in_training(monkeypatch, at_step=13)
    else:
        die_in_scoring(monkeypatch, after=9 if config.search.name == "optembed" else 4)
    with pytest.raises(KilledError):
        search(config, killed)
    monkeypatch.undo()
    assert not (killed / "allocation.json").exists()
    search(load_config(killed / "supernet" / "config.yaml"), killed, resume=True)
    assert differences(searched, killed) == []


class KilledError(Exception):
    """Nothing more is written: the same as a kill, for what lies on the disk."""


def die_in_training(monkeypatch, at_step):
    def look(_self, trainer, *_):
        if trainer.global_step == at_step:
            raise KilledError

    monkeypatch.setattr(StopOnSignal, "on_train_batch_end", look)


def die_in_scoring(monkeypatch, after):
    calls = []

    def stopper(*_):
        def stop_if_asked(done):
            calls.append(done)
            if len(calls) > after:
                raise KilledError

        return stop_if_asked

    monkeypatch.setattr("recsys.search.search._stopper", stopper)


def test_a_signal_ends_the_scoring_between_two_candidates(searched, tmp_path, monkeypatch):
    config, out = load_config(searched / "supernet" / "config.yaml"), tmp_path / "search"
    shutil.copytree(searched / "supernet", out / "supernet")
    auc = Scorer.auc

    def interrupted_auc(self):
        os.kill(os.getpid(), signal.SIGTERM)
        return auc(self)

    monkeypatch.setattr(Scorer, "auc", interrupted_auc)
    with pytest.raises(StoppedBySignal, match="SIGTERM"):
        search(config, out, resume=True)
    monkeypatch.undo()
    assert search(config, out, resume=True).is_file()


def test_a_search_leaves_the_test_rows_alone(tiny_dataset, tmp_path):
    """With other rows in `test`, everything that is found is the same."""
    changed = tmp_path / "data"
    shutil.copytree(tiny_dataset, changed)
    for file in (changed / "test").iterdir():
        file.write_bytes(b"not to be read")
    search(config_of(changed, *SECTIONS["optembed"]), tmp_path / "search")


OTHERS = {
    "optembed for autoint": [
        *SECTIONS["optembed"],
        "model={name: autoint, attention_dim: 8, num_layers: 1}",
    ],
    "dnis of second order for autoint+": [
        *SECTIONS["dnis"],
        "search.second_order=true",
        "model={name: autoint, attention_dim: 8, num_layers: 1, hidden_dims: [8]}",
    ],
    "optembed of columns on plain tables": [
        *SECTIONS["optembed"],
        "embeddings.default.variant=dims",
        "embeddings.store=plain",
        "train.embedding_optimizer={name: adam, learning_rate: 0.01, l2: 1.0e-4}",
    ],
    "dnis of a logistic regression": [
        "embeddings.default={method: dnis, embedding_dim: 1, bands: 2}",
        "search={name: dnis, budget_share: 0.5, warm_up_steps: 5}",
        "model={name: logistic_regression}",
    ],
    "optembed for din": [
        *SECTIONS["optembed"],
        "embeddings.features.history.shares_table_with=item",
        "model={name: din, pairs: [{target: [item], history: [history]}], hidden_dims: [8]}",
    ],
    "dnis of second order for dare": [
        *SECTIONS["dnis"],
        "search.second_order=true",
        "embeddings.features.history.shares_table_with=item",
        "embeddings.roles.search.default={method: full_table, embedding_dim: 4}",
        "model={name: dare, pairs: [{target: [item], history: [history]}], hidden_dims: [8]}",
    ],
    "one feature of several that share a table": [
        *SECTIONS["dnis"],
        "embeddings.default={method: full_table, embedding_dim: 8}",
        "embeddings.features={item: {method: dnis, embedding_dim: 8, bands: 2}}",
        "embeddings.features.history.shares_table_with=item",
    ],
}


@pytest.mark.parametrize("overrides", OTHERS.values(), ids=OTHERS)
def test_models_stores_and_variants_are_searched_and_trained(tiny_dataset, tmp_path, overrides):
    config = config_of(tiny_dataset, "train.epochs=1", *overrides)
    search(config, tmp_path / "search")
    retrained = with_allocation(tmp_path / "search", tmp_path)
    train(retrained, tmp_path / "run")
    assert load_trained(tmp_path / "run").config == retrained


REFUSED = {
    "attention": (
        [
            "embeddings.roles.search.default={method: optembed, embedding_dim: 4}",
            "model={name: dare, pairs: [{target: [item], history: [history]}]}",
        ],
        "role 'search' are not searched",
    ),
    "no section": (["search=null"], "nothing to search"),
    "no feature": (["embeddings.default.method=full_table"], "no feature has the method optembed"),
}


@pytest.mark.parametrize(("overrides", "message"), REFUSED.values(), ids=REFUSED)
def test_a_search_without_a_purpose_is_refused(tiny_dataset, tmp_path, overrides, message):
    config = config_of(tiny_dataset, *SECTIONS["optembed"], *overrides)
    with pytest.raises(RecsysError, match=message):
        search(config, tmp_path / "search")


def test_a_folder_with_a_search_is_not_written_over(searched):
    config = load_config(searched / "supernet" / "config.yaml")
    with pytest.raises(RecsysError, match="--resume"):
        search(config, searched)


def test_an_allocation_for_another_data_set_is_refused(searched, tmp_path):
    write_tiny_dataset(tmp_path / "other", {"train": 601, "valid": 200, "test": 200})
    with pytest.raises(RecsysError, match="another dataset"):
        with_allocation(searched, tmp_path, f"data.path={tmp_path / 'other'}")


@pytest.mark.parametrize(
    "override", ["model.hidden_dims=[8]", "model={name: autoint, attention_dim: 8}"]
)
def test_an_allocation_for_another_model_is_refused(searched, tmp_path, override):
    with pytest.raises(RecsysError, match="another model"):
        with_allocation(searched, tmp_path, override)


def test_a_missing_or_damaged_allocation_is_refused(searched, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(searched, copy)
    (copy / "allocation.json").write_text("{}")
    with pytest.raises(RecsysError, match="damaged"):
        with_allocation(copy, tmp_path)
    (copy / "allocation.json").unlink()
    with pytest.raises(RecsysError, match=r"allocation .* not found"):
        with_allocation(copy, tmp_path)


def test_the_resolved_config_reads_back_as_itself(searched, tmp_path):
    config = with_allocation(searched, tmp_path)
    (tmp_path / "dumped.yaml").write_text(dump_config(config))
    assert load_config(tmp_path / "dumped.yaml") == config


def searched_on_ranks(config, folder):
    with join_ranks(torch.device("cpu")) as ranks:
        search(config, folder, ranks=ranks)


@pytest.mark.distributed
def test_two_ranks_find_what_one_process_finds(searched, tmp_path):
    path = searched / "supernet" / "config.yaml"
    # every rank draws random numbers of its own
    overrides = ["model.dropout=0", "search.budget_share=null"]
    if load_config(path).search.name == "optembed":
        overrides.append("embeddings.default.variant=rows")
    config = load_config(path, overrides)
    search(config, tmp_path / "alone")
    run_on_ranks(2, searched_on_ranks, config, tmp_path / "together")
    (alone, _), (together, _) = (
        load_allocation(tmp_path / name / "allocation.json") for name in ("alone", "together")
    )
    assert together.chosen.bytes == alone.chosen.bytes
    assert together.supernet.auc == pytest.approx(alone.supernet.auc, abs=1e-3)
    for name, feature in alone.features.items():
        assert together.features[name].kept_rows == feature.kept_rows
        assert together.features[name].dims == feature.dims
