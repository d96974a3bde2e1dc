"""Mixed dimensions: the power rule, its budget, projections and bands (Ginart et al. 2019)."""

import numpy as np
import pytest
import torch

from recsys.config.base import validate
from recsys.data.jagged_ids import JaggedIds
from recsys.distributed.build import build_ctr_model
from recsys.embeddings.build import build_embeddings
from recsys.embeddings.config import EmbeddingsConfig
from recsys.embeddings.feature_methods import row_counts
from recsys.embeddings.id_mapping.power_rule import anchored_dims, count_floats, dims_within
from recsys.embeddings.methods.base import EmbeddingKey
from recsys.embeddings.methods.mixed_dimension import MixedDimensionConfig
from recsys.embeddings.optimizers import AdamConfig, RowwiseAdagradConfig, SgdConfig
from recsys.embeddings.table_spec import NormalInit
from recsys.errors import RecsysError
from recsys.models.dcn_v2 import DCNv2Config
from recsys.schema import Feature, Schema
from tests.embeddings.criteo import CRITEO, CRITEO_SIZES

CPU = torch.device("cpu")
BANDS = ({"share": 0.1, "dim": 6}, {"share": 0.3, "dim": 3}, {"share": 0.6, "dim": 2})


def dims_of(text: str) -> list[int]:
    return [int(dim) for dim in text.split()]


# published for the vocabulary above; the dims hold for the whole range of temperatures
GOLDEN = [
    (32, 0.2068, "8 8 1 2 16 16 8 8 32 4 8 1 8 16 4 2 32 8 8 32 2 16 32 4 16 4"),
    (32, 0.2086, "8 8 1 2 16 16 8 8 32 4 8 1 8 16 4 2 32 8 8 32 2 16 32 4 16 4"),
    (64, 0.2530, "16 16 1 2 16 32 8 16 64 4 8 1 8 32 8 2 64 8 16 64 2 32 32 4 32 4"),
    (64, 0.2558, "16 16 1 2 16 32 8 16 64 4 8 1 8 32 8 2 64 8 16 64 2 32 32 4 32 4"),
    (16, 0.1596, "8 8 1 2 8 8 4 8 16 4 4 1 4 8 4 2 16 4 8 16 2 16 16 4 8 4"),
    (16, 0.1613, "8 8 1 2 8 8 4 8 16 4 4 1 4 8 4 2 16 4 8 16 2 16 16 4 8 4"),
    (16, 0.3, "4 4 1 1 4 8 1 4 16 1 2 1 2 8 1 1 8 2 2 16 1 8 8 1 8 1"),
]


@pytest.mark.parametrize(("dim", "temperature", "golden"), GOLDEN)
def test_golden_dims_of_criteo(dim, temperature, golden):
    dims = anchored_dims(CRITEO_SIZES, temperature, dim, "power_of_two")
    assert dims == dims_of(golden)


@pytest.mark.parametrize(
    ("dim", "temperature", "ratio"),
    [(32, 0.207, 0.04657), (64, 0.254, 0.02333), (16, 0.16, 0.0929)],
)
def test_golden_ratios_of_criteo(dim, temperature, ratio):
    dims = anchored_dims(CRITEO_SIZES, temperature, dim, "power_of_two")
    floats = sum(n * d for n, d in zip(CRITEO_SIZES, dims, strict=True))
    assert floats / (sum(CRITEO_SIZES) * dim) == pytest.approx(ratio, rel=1e-3)


def test_golden_floats_of_criteo():
    config = MixedDimensionConfig(embedding_dim=16, temperature=0.3, rounding="power_of_two")
    methods = [m.build(f, CRITEO[f], f) for f, m in config.resolve(CRITEO).items()]
    assert sum(t.num_rows * t.dim for m in methods for t in m.tables()) == 33_789_720
    assert sum(p.numel() for m in methods for p in m.parameters()) == 1_312


@pytest.mark.parametrize("rounding", ["none", "power_of_two"])
@pytest.mark.parametrize("temperature", [0.0, 0.1, 0.3, 0.6, 1.0])
@pytest.mark.parametrize("dim", [1, 16, 24, 48])
def test_dims_stay_in_bounds_and_never_grow_with_the_feature(dim, temperature, rounding):
    dims = anchored_dims(CRITEO_SIZES, temperature, dim, rounding)
    by_size = [d for _, d in sorted(zip(CRITEO_SIZES, dims, strict=True))]
    assert by_size == sorted(dims, reverse=True)
    assert min(dims) >= 1
    assert max(dims) == dim  # the anchor, no power of two where the base is none
    reversed_dims = anchored_dims(CRITEO_SIZES[::-1], temperature, dim, rounding)
    assert reversed_dims == dims[::-1]


def test_temperature_0_is_full_tables_without_projections():
    config = MixedDimensionConfig(embedding_dim=4, temperature=0.0)
    methods = [m.build(f, CRITEO[f], f) for f, m in config.resolve(CRITEO).items()]
    assert all(method.is_plain_table for method in methods)
    assert not any(list(method.parameters()) for method in methods)


@pytest.mark.parametrize("rounding", ["none", "power_of_two"])
@pytest.mark.parametrize("temperature", [0.0, 0.3, 0.6, 1.0])
@pytest.mark.parametrize("share", [1.0, 0.5, 0.25, 0.1, 0.0626])
def test_the_budget_is_met_with_projections(share, temperature, rounding):
    full = sum(CRITEO_SIZES) * 16
    config = MixedDimensionConfig(
        embedding_dim=16, temperature=temperature, budget_share=share, rounding=rounding
    )
    methods = {f: m.build(f, CRITEO[f], f) for f, m in config.resolve(CRITEO).items()}
    rows = sum(t.num_rows * t.dim for m in methods.values() for t in m.tables())
    projections = sum(p.numel() for m in methods.values() for p in m.parameters())
    assert rows + projections <= share * full


def test_the_budgets_scale_is_the_largest():
    sizes, dim, alpha = [1000, 300, 50, 7], 8, 0.4
    for budget in (1400, 2000, 3333, 5000, 9000, 20_000):
        features = dict(zip("abcd", sizes, strict=True))
        found = count_floats(sizes, dims_within(budget, features, alpha, dim, "none"), dim)
        tried = []
        for scale in np.geomspace(0.1, 1000, 20_000):  # the definition, scale by scale
            raw = np.floor(scale * np.array(sizes, float) ** -alpha + 0.5)
            tried.append(count_floats(sizes, [int(d) for d in raw.clip(1, dim)], dim))
        assert found == [floats for floats in tried if floats <= budget][-1]


def test_a_budget_below_one_float_an_id_is_refused():
    least = sum(CRITEO_SIZES) + 26 * 16
    rule = (CRITEO, 0.3, 16, "none")
    assert dims_within(least, *rule) == [1] * 26
    with pytest.raises(RecsysError, match=f"(?s)C1, C2.*at least {least} floats"):
        dims_within(least - 1, *rule)
    config = MixedDimensionConfig(embedding_dim=16, temperature=0.3, budget_share=0.01)
    with pytest.raises(RecsysError, match="do not fit the budget"):
        config.resolve(CRITEO)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"dim": 2, "temperature": 0.3},
        {"dim": 2, "budget_floats": 9},
        {"temperature": 0.3, "budget_floats": 9, "budget_share": 0.5},
        {"dim": 9},
        {"bands": [{"share": 0.5, "dim": 2}, {"share": 0.4, "dim": 1}]},
    ],
)
def test_choices_that_exclude_each_other_are_refused(options):
    content = {"default": {"method": "mixed_dimension", "embedding_dim": 8, **options}}
    with pytest.raises(RecsysError, match=r"one of|at most|sum to 1"):
        validate(EmbeddingsConfig, content, "test")


def test_a_vector_is_its_row_times_the_projection():
    method = MixedDimensionConfig(embedding_dim=5, dim=2).build("a", 10, "a")
    table = torch.randn(10, 2)
    (projection,) = method.parameters()
    assert projection.shape == (2, 5)
    torch.testing.assert_close(method.materialize({"a": table}), table @ projection)
    assert method.output_dim == 5


def bands_of(cardinality=20, **options):
    config = MixedDimensionConfig(embedding_dim=6, bands=BANDS, **options)
    return config.build("a", cardinality, "a")


def test_bands_are_contiguous_ranges_of_ids():
    method = bands_of()
    assert [(b.first, b.size, b.dim) for b in method.blocks] == [(0, 2, 6), (2, 6, 3), (8, 12, 2)]
    assert [p.shape for p in method.parameters()] == [(3, 6), (2, 6)]
    weights = {t.name: torch.randn(t.num_rows, t.dim) for t in method.tables()}
    for weight in weights.values():
        weight[-1] = 0.0
    narrow, narrowest = (p.detach() for p in method.parameters())
    expected = torch.cat(
        [weights["a/0"][:-1], weights["a/1"][:-1] @ narrow, weights["a/2"][:-1] @ narrowest]
    )
    torch.testing.assert_close(method.materialize(weights), expected)


def test_a_band_without_ids_is_refused():
    with pytest.raises(RecsysError, match="a: a band has no ids"):
        bands_of(4)


def test_initial_variance_of_bands_and_dims_equals_a_plain_tables():
    torch.manual_seed(0)
    bands = ({"share": 0.5, "dim": 64}, {"share": 0.5, "dim": 16})
    config = MixedDimensionConfig(embedding_dim=64, bands=bands, init=NormalInit(std=0.3))
    embeddings = build(config, SgdConfig(learning_rate=1.0), "plain", 4000)
    table = embeddings.materialize("a")
    assert table[:2000].std().item() == pytest.approx(0.3, rel=0.05)
    assert table[2000:].std().item() == pytest.approx(0.3, rel=0.05)


def test_projections_depend_on_the_seed_alone():
    def projection(seed):
        feature = Feature(name="a", kind="categorical", column="a", cardinality=9)
        model = build_ctr_model(
            EmbeddingsConfig(default=MixedDimensionConfig(embedding_dim=6, dim=2)),
            DCNv2Config(hidden_dims=(4,)),
            SgdConfig(learning_rate=1.0),
            Schema(name="x", features=(feature,), splits={}),
            seed=seed,
            device=CPU,
        )
        return next(model.embeddings.method_modules.parameters())

    first = projection(0)
    torch.manual_seed(5)
    assert torch.equal(projection(0), first)
    assert not torch.equal(projection(1), first)


def build(config, optimizer, store, cardinality=20, kind="categorical"):
    feature = Feature(name="a", kind=kind, column="a", cardinality=cardinality)
    schema = Schema(name="x", features=(feature,), splits={})
    content = EmbeddingsConfig(default=config, store=store)
    embeddings = build_embeddings(content, schema, optimizer, CPU)
    embeddings.store.initialize(0)
    return embeddings


@pytest.mark.parametrize("kind", ["categorical", "sequence"])
@pytest.mark.parametrize(
    ("store", "optimizer"),
    [
        ("fused", SgdConfig(learning_rate=0.5)),
        ("fused", RowwiseAdagradConfig(learning_rate=0.5)),
        ("plain", RowwiseAdagradConfig(learning_rate=0.5)),
        ("plain", AdamConfig(learning_rate=0.5, l2=0.1)),
    ],
)
def test_rows_for_ids_of_other_bands_are_zero_and_stay_so(kind, store, optimizer):
    config = MixedDimensionConfig(embedding_dim=6, bands=BANDS)
    embeddings = build(config, optimizer, store, kind=kind)
    ids = [[0], [3], [19], [8]] if kind == "categorical" else [[0, 19], [3], [], [8, 3, 2]]
    sparse = JaggedIds(
        keys=["a"],
        values=torch.tensor([i for bag in ids for i in bag], dtype=torch.int32),
        lengths=torch.tensor([len(bag) for bag in ids], dtype=torch.int32),
    )
    before = embeddings.materialize("a")
    for _ in range(3):
        for step in embeddings.store.optimizers():
            step.zero_grad()
        embeddings(embeddings.physical_ids(sparse))[0].fields.square().sum().backward()
        embeddings.store.step()
    for name, weight in embeddings.store.weights().items():
        assert torch.equal(weight[-1], torch.zeros_like(weight[-1])), name
    moved = (embeddings.materialize("a") != before).any(1)
    looked_up = sorted({i for bag in ids for i in bag})
    if not optimizer.touches_whole_tables:
        assert moved.nonzero().flatten().tolist() == looked_up


@pytest.mark.parametrize("store", ["fused", "plain"])
def test_band_gradients_equal_index_add(store):
    embeddings = build(
        MixedDimensionConfig(embedding_dim=6, bands=BANDS), SgdConfig(learning_rate=1.0), store
    )
    before = {name: weight.clone() for name, weight in embeddings.store.weights().items()}
    ids = torch.tensor([0, 1, 2, 7, 8, 8, 19], dtype=torch.int32)
    sparse = JaggedIds(keys=["a"], values=ids, lengths=torch.ones(7, dtype=torch.int32))
    upstream = torch.randn(7, 6)
    embeddings(embeddings.physical_ids(sparse))[0].fields.backward(upstream)
    embeddings.store.step()
    projections = [torch.eye(6), *(p.detach() for p in embeddings.method_modules.parameters())]
    after = embeddings.store.weights()
    for j, block in enumerate(embeddings.methods[EmbeddingKey("a")].blocks):
        inside = (ids >= block.first) & (ids < block.first + block.size)
        expected = before[f"a/{j}"].index_add(
            0, ids[inside] - block.first, -upstream[inside] @ projections[j].T
        )
        torch.testing.assert_close(after[f"a/{j}"], expected)


def test_projections_get_the_gradient_of_their_band_alone():
    method = bands_of()
    weights = {t.name: torch.randn(t.num_rows, t.dim) for t in method.tables()}
    ids = torch.tensor([2, 7])  # the second band
    for weight in weights.values():
        weight[-1] = 0.0
    vectors = [
        weights[look.table][r] for look, r in zip(method.lookups, method.rows(ids), strict=True)
    ]
    upstream = torch.randn(2, 6)
    method.combine(vectors).backward(upstream)
    narrow, narrowest = method.parameters()
    torch.testing.assert_close(narrow.grad, weights["a/1"][[0, 5]].T @ upstream)
    assert not narrowest.grad.any()


def test_row_counts_of_bands_are_counts_of_their_ids():
    method = bands_of()
    counts = row_counts({EmbeddingKey("a"): method}, {"a": torch.arange(20)})
    for j, block in enumerate(method.blocks):
        inside = list(range(block.first, block.first + block.size))
        assert counts[f"a/{j}"][:-1].tolist() == inside
        assert counts[f"a/{j}"][-1] == sum(range(20)) - sum(inside)
