"""DNIS' bands over all features: the paper's cut, by count in train rows."""

import numpy as np
import pytest
import torch

from recsys.config.run import dump_config, load_config
from recsys.data.statistics import count_ids
from recsys.embeddings.allocation import load_allocation
from recsys.errors import RecsysError
from recsys.schema import load_schema
from recsys.search.search import search
from recsys.search.shared_bands import shared_band_ends, with_band_ends
from recsys.training.run_folder.trained import build_model, load_trained
from tests.search.test_search import config_of

DNIS = "{method: dnis, embedding_dim: 8, bands: [0.2, 0.3, 0.5], bands_over: all_features}"
SECTIONS = [f"embeddings.default={DNIS}", "search={name: dnis}"]


def test_bands_are_cut_by_count_over_all_features_together():
    counts = {
        "a": np.array([1.0, 50.0, 7.0, 2.0]),
        "b": np.array([0.0, 40.0, 30.0, 20.0, 1.0, 1.0]),
    }
    # sorted: a0 a1 (50), b0 b1 (40), b2 30 | b3 20, a2 7, a3 2 | b4 b5
    assert shared_band_ends(counts, (0.5, 0.3, 0.2)) == {"a": (2, 4, 4), "b": (3, 4, 6)}


def test_equal_parts_hold_each_id_once():
    rng = np.random.default_rng(0)
    counts = {f"f{i}": np.sort(rng.integers(1, 100, n))[::-1] for i, n in enumerate((1, 40, 217))}
    ends = shared_band_ends(counts, 5)
    sizes = np.diff([(0, *found) for found in ends.values()], axis=1)
    assert sizes.sum(1).tolist() == [1, 40, 217]
    assert sizes.sum(0).tolist() == [52, 51, 52, 51, 52]


def test_every_id_of_a_band_occurs_at_least_as_often_as_those_of_the_next(tiny_dataset):
    schema = load_schema(tiny_dataset)
    config = with_band_ends(config_of(tiny_dataset, *SECTIONS), schema)
    counts = count_ids(schema, tiny_dataset)
    model = build_model(config, schema)
    least = torch.full((3,), torch.inf)
    most = torch.zeros(3)
    for key, method in model.embeddings.methods.items():
        falling = counts[key.feature][1:].cummin(0).values
        for band, (first, end) in zip(
            method.shared_bands, zip(method.bounds, method.bounds[1:], strict=False), strict=True
        ):
            own = falling[max(first - 1, 0) : end - 1]
            if len(own):
                least[band] = min(least[band], own.min())
                most[band] = max(most[band], own.max())
    assert least[0] >= most[1] >= least[1] >= most[2] > 0


def test_the_config_of_the_supernet_keeps_the_bands(tiny_dataset, tmp_path):
    schema = load_schema(tiny_dataset)
    config = with_band_ends(config_of(tiny_dataset, *SECTIONS), schema)
    (tmp_path / "config.yaml").write_text(dump_config(config))
    again = load_config(tmp_path / "config.yaml")
    assert again == config
    assert with_band_ends(again, schema) == config


def test_features_with_other_cuts_are_refused(tiny_dataset):
    other = "embeddings.features.shop={method: dnis, embedding_dim: 8, bands_over: all_features}"
    config = config_of(tiny_dataset, *SECTIONS, other)
    with pytest.raises(RecsysError, match="need the same settings"):
        with_band_ends(config, load_schema(tiny_dataset))


def test_a_network_that_nothing_trains_is_refused(tiny_dataset):
    with pytest.raises(RecsysError, match="never be trained"):
        config_of(tiny_dataset, *SECTIONS, "search.train_network=false")


@pytest.mark.slow
def test_a_search_with_the_papers_choices_finds_an_allocation_within_its_budget(
    tiny_dataset, tmp_path
):
    steps = ["search.train_network=false", "search.warm_up_steps=3", "search.budget_share=0.5"]
    out = tmp_path / "search"
    search(config_of(tiny_dataset, *SECTIONS, *steps), out)
    allocation, _ = load_allocation(out / "allocation.json")
    assert 0 < allocation.bytes <= 0.5 * allocation.full_bytes
    methods = load_trained(out / "supernet").model.embeddings.methods.values()
    factors: dict[int, torch.Tensor] = {}
    for method in methods:
        for band, factor in zip(method.shared_bands, method.alpha, strict=True):
            assert torch.equal(factors.setdefault(band, factor), factor)
    assert set(factors) == {0, 1, 2}
    assert any((factor < 1).any() for factor in factors.values())
