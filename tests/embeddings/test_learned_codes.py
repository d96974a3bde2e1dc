"""Artifacts: learned codes go from a trained table to an allocation, a run and an export."""

import shutil
from typing import Annotated, get_args

import numpy as np
import pytest
import torch
import yaml
from pydantic import Field, TypeAdapter

from recsys.config.base import validate
from recsys.config.run import RunConfig, load_config
from recsys.embeddings import allocation as allocations
from recsys.embeddings import config as embeddings_config
from recsys.embeddings.allocation import Allocation, FeatureAllocation, Score, save_allocation
from recsys.embeddings.config import EmbeddingsConfig, FeatureConfig
from recsys.embeddings.methods import MethodConfig
from recsys.embeddings.methods.base import EmbeddingKey, Finalized
from recsys.embeddings.methods.hashed import HashedConfig
from recsys.embeddings.table_spec import NormalInit
from recsys.errors import RecsysError
from recsys.export.write import export_run
from recsys.schema import load_schema
from recsys.serving.reader import ExportReader
from recsys.training.checkpoint.io import load_weights
from recsys.training.run_folder.trained import build_model, load_trained
from recsys.training.train import train
from tests.embeddings import test_contract
from tests.embeddings.contract_cases import contract_cases
from tests.embeddings.examples import CARDINALITY, DIM
from tests.embeddings.learned_codes import CompressedLaterConfig, ProductQuantizationConfig
from tests.faults.conftest import CONFIG

WithToys = Annotated[
    get_args(MethodConfig)[0] | ProductQuantizationConfig | CompressedLaterConfig,  # type: ignore[valid-type]  # a union made at run time
    Field(discriminator="method"),
]


class ToyFeature(FeatureConfig):
    method: WithToys | None = None


class ToyEmbeddings(EmbeddingsConfig):
    default: WithToys
    features: dict[str, ToyFeature] = {}


class ToyRun(RunConfig):
    embeddings: ToyEmbeddings


@pytest.fixture
def toy_methods(monkeypatch):
    """The lists of the product with the toy methods in them."""
    monkeypatch.setattr("recsys.config.run.RunConfig", ToyRun)
    monkeypatch.setattr(embeddings_config, "FeatureConfig", ToyFeature)
    monkeypatch.setattr(allocations, "METHOD", TypeAdapter(WithToys))


@pytest.mark.parametrize(("promise", "arguments"), contract_cases())
def test_the_toy_keeps_every_promise(promise, arguments, monkeypatch):
    monkeypatch.setattr(test_contract, "EmbeddingsConfig", ToyEmbeddings)
    promise(method=ProductQuantizationConfig(embedding_dim=DIM), **arguments)


def finalized_table(cardinality=CARDINALITY, **options) -> tuple[torch.Tensor, Finalized]:
    table = torch.randn(cardinality, DIM, generator=torch.Generator().manual_seed(0))
    method = CompressedLaterConfig(embedding_dim=DIM, **options).build("item", cardinality, "item")
    return table, method.finalize({"item": table})


def test_a_trained_table_becomes_codes_and_codebooks():
    table, found = finalized_table()
    method = found.build("item", CARDINALITY, "item")
    codebooks = {t.name: t.init.values for t in method.tables()}
    error = (method.materialize(codebooks) - table).square().mean()
    assert 0 < error < 0.5 * table.square().mean()
    table, exact = finalized_table(num_codes=CARDINALITY)
    method = exact.build("item", CARDINALITY, "item")
    torch.testing.assert_close(
        method.materialize({t.name: t.init.values for t in method.tables()}), table
    )


def test_a_method_that_is_served_as_it_is_trained_says_so():
    method = HashedConfig(embedding_dim=DIM, num_buckets=9).build("item", CARDINALITY, "item")
    with pytest.raises(TypeError, match="hashed is served as it is trained"):
        method.finalize({})


def test_what_rows_reads_stays_where_batches_are_made():
    method = finalized_table()[1].build("item", CARDINALITY, "item")
    before = method.rows(torch.arange(CARDINALITY))
    method.to("meta")
    for found, expected in zip(method.rows(torch.arange(CARDINALITY)), before, strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("world_size", [1, 3])
def test_a_table_starts_from_its_codebook_in_every_sharding(world_size):
    _, found = finalized_table()
    embeddings = test_contract.build(HashedConfig(embedding_dim=DIM, num_buckets=9))
    store = embeddings.store
    (first, *_), rows = found.build("a", CARDINALITY, "a").tables(), 8
    shards = []
    for rank in range(world_size):
        begin, end = rank * rows // world_size, (rank + 1) * rows // world_size
        weight = torch.empty(end - begin, first.dim)
        shard = next(store.shards())._replace(table=first, first_row=begin, weight=weight)
        shards.append(shard)
    store.shards = lambda: iter(shards)
    store.initialize(0)
    assert torch.equal(torch.cat([s.weight for s in shards]), first.init.values)


@pytest.fixture
def searched(tiny_dataset, tmp_path):
    """A config, an allocation of learned codes for `item` beside it, and the codes."""
    content = {**CONFIG, "data": {"path": str(tiny_dataset), "global_batch_size": 64}}
    content["embeddings"] = {"default": {"method": "full_table", "embedding_dim": DIM}}
    config = validate(RunConfig, content, "test")
    schema = load_schema(tiny_dataset)
    _, found = finalized_table(80, init=NormalInit(std=0.1))
    score = Score(rows="valid", auc=0.5, bytes=1)
    feature = FeatureAllocation(
        cardinality=80,
        kept_rows=80,
        dims=(DIM,),
        bytes=1,
        full_bytes=80 * DIM * 4,
        why={},
        embedding=found.config.model_dump(mode="json"),
    )
    save_allocation(
        Allocation(
            method="toy",
            dataset=schema.name,
            fingerprint=schema.fingerprint(),
            model=config.model.model_dump(mode="json"),
            seed=0,
            max_bytes=None,
            bytes=1,
            full_bytes=1,
            supernet=score,
            chosen=score,
            features={"item": feature},
        ),
        {f"item/{name}": tensor for name, tensor in found.artifacts.items()},
        tmp_path / "search.json",
    )
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(content))
    return tmp_path, found


@pytest.mark.usefixtures("toy_methods")
def test_an_allocation_of_learned_codes_is_trained_and_exported(searched):
    folder, found = searched
    config = load_config(
        folder / "run.yaml", [f"embeddings.allocation={folder / 'search.json'}", "train.epochs=1"]
    )
    model = build_model(config, load_schema(config.data.path))
    weights = model.embeddings.store.weights()
    assert torch.equal(weights["item/0"], found.artifacts["codebook_0"])
    train(config, folder / "run")
    for file in folder.glob("search*"):  # the run folder needs nothing else
        file.unlink()
    shutil.move(folder / "run", folder / "moved")
    trained = load_trained(folder / "moved")
    assert trained.config == config
    method = trained.model.embeddings.methods[EmbeddingKey("item")]
    assert torch.equal(method.codes_1, found.artifacts["codes_1"])
    (best,) = (folder / "moved" / "checkpoints").glob("best-*")
    saved = [v for name, v in load_weights(best).items() if name.endswith(".codes_1")]
    assert len(saved) == 1
    assert torch.equal(saved[0], found.artifacts["codes_1"])
    assert not torch.equal(
        trained.model.embeddings.store.weights()["item/0"], found.artifacts["codebook_0"]
    )
    reader = ExportReader(export_run(trained, folder / "export"))
    exported = next(f for f in reader.manifest.sparse if f.name == "item")
    vectors = trained.model.embeddings.materialize("item").numpy()
    for form in ("materialized", "native"):
        found = reader.tables.vectors(exported, np.arange(80), form)
        np.testing.assert_array_equal(found, vectors)
    assert set(exported.forms) >= {"materialized", "native"}


@pytest.mark.usefixtures("toy_methods")
@pytest.mark.parametrize("damage", ["missing", "changed"])
def test_artifacts_that_are_not_those_of_the_allocation_are_refused(searched, damage):
    folder, _ = searched
    file = folder / "search.artifacts.safetensors"
    file.unlink() if damage == "missing" else file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(RecsysError, match=r"the artifacts (cannot be read|are not those)"):
        load_config(folder / "run.yaml", [f"embeddings.allocation={folder / 'search.json'}"])
