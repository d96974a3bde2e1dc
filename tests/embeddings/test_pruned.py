"""pruned: kept rows, narrow rows, bands; what has no row is zero and stays so."""

import json

import pytest
import torch

from recsys.data.jagged_ids import JaggedIds
from recsys.embeddings.allocation import load_allocation
from recsys.embeddings.artifacts import Artifacts
from recsys.embeddings.build import build_embeddings
from recsys.embeddings.collection import FeatureEmbeddings
from recsys.embeddings.config import EmbeddingsConfig
from recsys.embeddings.id_mapping.id_bitmap import (
    pack_bits,
    smallest_dtype,
    unpack_bits,
    unpack_ids,
)
from recsys.embeddings.methods.pruned import PrunedConfig
from recsys.embeddings.optimizers import AdamConfig, RowwiseAdagradConfig, SgdConfig
from recsys.errors import RecsysError
from recsys.schema import Feature, Schema
from tests.embeddings.examples import kept_text

CPU = torch.device("cpu")
CHOSEN = torch.arange(10) % 3 == 0  # ids 0, 3, 6, 9
BANDS = [{"first": 0, "end": 4, "dims": [0, 1, 2, 3]}, {"first": 4, "end": 8, "dims": [3, 1]}]
CONFIGS = {
    "first ids": {"kept": 6},
    "chosen ids": {"kept": kept_text(CHOSEN)},
    "narrow": {"dims": 2},
    "chosen and narrow": {"kept": kept_text(CHOSEN), "dims": 3},
    "bands": {"bands": BANDS},
    "bands of chosen ids": {"bands": BANDS, "kept": kept_text(CHOSEN)},
    "none": {"kept": 0},
    "all": {},
}
each_config = pytest.mark.parametrize("options", CONFIGS.values(), ids=CONFIGS)


def config_of(**options) -> PrunedConfig:
    return PrunedConfig.model_validate({"embedding_dim": 4, **options})


def embeddings_of(method, store="fused", optimizer=None, kind="categorical") -> FeatureEmbeddings:
    feature = Feature(name="a", kind=kind, column="a", cardinality=10)
    schema = Schema(name="x", features=(feature,), splits={})
    built = build_embeddings(
        EmbeddingsConfig(default=method, store=store),
        schema,
        optimizer or RowwiseAdagradConfig(learning_rate=0.1),
        CPU,
    )
    built.store.initialize(seed=3)
    return built


def full_table() -> torch.Tensor:
    method = {"method": "full_table", "embedding_dim": 4}
    config = EmbeddingsConfig.model_validate({"default": method})
    return embeddings_of(config.default).materialize("a").clone()


def mask_of(options) -> torch.Tensor:
    """(10, 4): 1 where an entry of the full table is kept, written anew from the options."""
    kept = options.get("kept")
    rows = torch.arange(10) < 10
    if isinstance(kept, int):
        rows = torch.arange(10) < kept
    elif kept is not None:
        rows = CHOSEN
    mask = torch.zeros(10, 4)
    for band in options.get("bands", [{"first": 0, "end": 10, "dims": range(4)}]):
        for dim in band["dims"]:
            mask[band["first"] : band["end"], dim] = 1.0
    mask[:, options.get("dims", 4) :] = 0.0
    return mask * rows[:, None]


@each_config
@pytest.mark.parametrize("store", ["fused", "plain"])
def test_kept_entries_start_as_the_full_tables_and_others_are_zero(options, store):
    table = embeddings_of(config_of(**options), store).materialize("a")
    assert torch.equal(table, full_table() * mask_of(options))


def test_initial_rows_of_a_large_table_come_from_all_its_blocks(monkeypatch):
    monkeypatch.setattr("recsys.embeddings.tables.base.ROWS_DRAWN_AT_ONCE", 4)
    expected = full_table() * mask_of(CONFIGS["chosen and narrow"])
    table = embeddings_of(config_of(**CONFIGS["chosen and narrow"])).materialize("a")
    assert torch.equal(table, expected)


@each_config
def test_every_kept_entry_is_stored_once(options):
    method = config_of(**options).build("a", 10, "a")
    entries = sum(t.num_rows * t.dim for t in method.tables())
    zero_rows = sum(t.dim for t in method.tables()) if not mask_of(options)[:, 0].all() else 0
    assert entries == max(int(mask_of(options).sum()) + zero_rows, 1)


def single(ids) -> JaggedIds:
    return JaggedIds(keys=["a"], values=torch.tensor(ids).int(), lengths=torch.ones(len(ids)).int())


OPTIMIZERS = {
    "adagrad": ("fused", RowwiseAdagradConfig(learning_rate=0.5)),
    "sgd": ("fused", SgdConfig(learning_rate=0.5)),
    "dense adam with l2": ("plain", AdamConfig(learning_rate=0.1, l2=0.1)),
}


@each_config
@pytest.mark.parametrize(("store", "optimizer"), OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_training_never_moves_the_zeros(options, store, optimizer):
    embeddings = embeddings_of(config_of(**options), store, optimizer)
    for _ in range(3):
        for step in embeddings.store.optimizers():
            step.zero_grad()
        vectors = embeddings(embeddings.physical_ids(single([0, 1, 5, 9, 9, 3])))[0].fields
        (vectors - 1.0).square().sum().backward()
        embeddings.store.step()
    table, mask = embeddings.materialize("a"), mask_of(options)
    assert torch.equal(table * (1 - mask), torch.zeros(10, 4))
    is_trained = mask[[0, 1, 5, 9, 3]] > 0
    before = full_table()[[0, 1, 5, 9, 3]]
    assert bool((table[[0, 1, 5, 9, 3]] != before)[is_trained].all())


@each_config
def test_bags_are_sums_and_train_their_kept_rows_alone(options):
    embeddings = embeddings_of(config_of(**options), kind="sequence")
    bags = JaggedIds(
        keys=["a"],
        values=torch.tensor([0, 1, 9, 9, 4]).int(),
        lengths=torch.tensor([3, 0, 2]).int(),
    )
    vectors = embeddings(embeddings.physical_ids(bags))[0].fields
    table = embeddings.materialize("a")
    expected = torch.stack([table[[0, 1, 9]].mean(0), torch.zeros(4), table[[9, 4]].mean(0)])
    torch.testing.assert_close(vectors, expected)
    vectors.square().sum().backward()
    assert torch.equal(embeddings.materialize("a") * (1 - mask_of(options)), torch.zeros(10, 4))


def test_the_projection_starts_as_padding_and_is_trained():
    padded = config_of(**CONFIGS["bands"]).build("a", 10, "a")
    projected = config_of(**CONFIGS["bands"], output="project").build("a", 10, "a")
    rows = [torch.randn(5, table.dim) for table in padded.tables()]
    torch.testing.assert_close(projected.combine(rows), padded.combine(rows))
    assert [tuple(p.shape) for p in projected.parameters()] == [(4, 4), (2, 4)]


def test_compact_vectors_have_the_stored_width():
    method = config_of(dims=3, kept=6, output="compact").build("a", 10, "a")
    assert method.output_dim == 3
    assert method.combine([torch.ones(2, 3)]).shape == (2, 3)


def test_indices_take_the_smallest_type_and_none_where_the_kept_ids_are_a_range():
    assert [b.dtype for b in config_of(kept=kept_text(CHOSEN)).build("a", 10, "a").buffers()] == [
        torch.uint8
    ]
    assert list(config_of(kept=6).build("a", 10, "a").buffers()) == []
    assert [smallest_dtype(n) for n in (255, 256, 40_000)] == [
        torch.uint8,
        torch.int16,
        torch.int32,
    ]


def test_kept_ids_come_back_from_their_text():
    mask = torch.rand(1003, generator=torch.Generator().manual_seed(0)) < 0.3
    assert torch.equal(unpack_ids(kept_text(mask), 1003, "here"), mask)


def test_kept_ids_come_back_from_their_bits():
    mask = torch.rand(1003, generator=torch.Generator().manual_seed(0)) < 0.3
    assert pack_bits(mask).shape == (126,)
    assert torch.equal(unpack_bits(pack_bits(mask), 1003, "here"), mask)


def test_kept_ids_of_a_file_give_the_same_method_as_their_text(tmp_path):
    artifacts = Artifacts.save({"a/kept": pack_bits(CHOSEN)}, tmp_path / "x.safetensors")
    fitted = config_of(artifacts=artifacts).build("b", 10, "a")  # b reads the table of a
    text = config_of(kept=kept_text(CHOSEN)).build("b", 10, "a")
    ids = torch.arange(10)
    for found, expected in zip(fitted.rows(ids), text.rows(ids), strict=True):
        assert torch.equal(found, expected)
    assert fitted.num_kept == int(CHOSEN.sum())
    (tmp_path / "x.safetensors").write_bytes(b"changed")
    other = Artifacts(file=tmp_path / "x.safetensors", sha256="0" * 64)
    with pytest.raises(RecsysError, match="not those that the config or allocation names"):
        config_of(artifacts=other).build("a", 10, "a")


def test_an_allocation_of_the_former_format_is_read(tmp_path):
    """Kept ids in a file of their own, by feature; `kept` of the method is a remark."""
    embedding = {"method": "pruned", "embedding_dim": 4, "kept": "in the safetensors file"}
    kept = tmp_path / "allocation.kept.safetensors"
    digest = Artifacts.save({"a": pack_bits(CHOSEN)}, kept).sha256
    score = {"rows": "valid", "auc": 0.5, "bytes": 1}
    feature = {"cardinality": 10, "kept_rows": 4, "dims": [4], "bytes": 1, "full_bytes": 1}
    content = {
        "format": 1,
        "method": "optembed",
        "dataset": "x",
        "fingerprint": "y",
        "model": {},
        "seed": 0,
        "max_bytes": None,
        "bytes": 1,
        "full_bytes": 1,
        "supernet": score,
        "chosen": score,
        "features": {"a": {**feature, "why": {}, "embedding": embedding}},
        "kept_file": kept.name,
        "kept_sha256": digest,
    }
    (tmp_path / "allocation.json").write_text(json.dumps(content))
    _, methods = load_allocation(tmp_path / "allocation.json")
    found, expected = (
        config.build("a", 10, "a").rows(torch.arange(10))[0]
        for config in (methods["a"], config_of(kept=kept_text(CHOSEN)))
    )
    assert torch.equal(found, expected)


WRONG = {
    "another cardinality": (
        {"kept": kept_text(torch.ones(20, dtype=torch.bool))},
        "another feature",
    ),
    "no text of ours": ({"kept": "first hundred"}, "cannot be read"),
    "too many": ({"kept": 11}, "more ids are kept than there are"),
    "bands that overlap": (
        {"bands": [BANDS[0], {"first": 3, "end": 8, "dims": [0]}]},
        "do not fit its ids",
    ),
    "a band beyond the ids": ({"bands": [{"first": 5, "end": 11, "dims": [0]}]}, "do not fit"),
}


@pytest.mark.parametrize(("options", "message"), WRONG.values(), ids=WRONG)
def test_what_does_not_fit_the_feature_is_refused(options, message):
    with pytest.raises(RecsysError, match=message):
        config_of(**options).build("a", 10, "a")


@pytest.mark.parametrize(
    "options",
    [{"dims": 5}, {"bands": [{"first": 0, "end": 4, "dims": [4]}]}, {"bands": BANDS, "dims": 2}],
)
def test_columns_that_do_not_exist_are_refused(options):
    with pytest.raises(ValueError, match="dims"):
        config_of(**options)


def test_what_makes_rows_stays_where_batches_are_made():
    method = config_of(kept=kept_text(CHOSEN), bands=BANDS).build("a", 10, "a").to("meta")
    assert [rows.tolist() for rows in method.rows(torch.tensor([3, 6, 1]))] == [
        [1, 2, 2],
        [1, 0, 1],
    ]
