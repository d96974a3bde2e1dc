"""DNIS' supernet: bands partition the ids, factors scale groups of columns."""

import pytest
import torch

from recsys.embeddings.methods.dnis import DnisConfig, frequency_bands
from recsys.embeddings.methods.full_table import FullTableConfig
from recsys.embeddings.table_spec import NormalInit
from recsys.embeddings.tables.base import table_generator
from recsys.errors import RecsysError


def weights_of(method, seed=0):
    """The initial tables, each drawn whole by hand."""
    table = torch.empty(method.cardinality, method.output_dim)
    table.normal_(0.0, 1.0, generator=table_generator(seed, "a"))
    weights = {}
    for spec in method.tables():
        rows, init = spec.init.rows, spec.init
        weights[spec.name] = torch.where(
            (rows >= 0)[:, None], table[rows.clamp(min=0)][:, init.columns], 0.0
        )
    return table, weights


@pytest.mark.parametrize(
    ("bands", "bounds"),
    [
        (2, [0, 5, 10]),
        (4, [0, 2, 5, 8, 10]),
        ((0.1, 0.2, 0.7), [0, 1, 3, 10]),
        (10, list(range(11))),
        (30, list(range(11))),
        (1, [0, 10]),
    ],
)
def test_bands_partition_the_ids(bands, bounds):
    assert frequency_bands(10, bands) == bounds


def test_factors_of_one_give_the_full_table():
    config = {"embedding_dim": 4, "init": NormalInit(std=1.0)}
    method = DnisConfig(**config, bands=3).build("a", 10, "a")
    table, weights = weights_of(method)
    assert torch.equal(method.materialize(weights), table)
    full = FullTableConfig(**config).build("a", 10, "a")
    assert full.tables()[0].name == "a"


def test_each_band_has_a_factor_for_each_group_of_columns():
    method = DnisConfig(embedding_dim=4, bands=2, dim_groups=2, init=NormalInit(std=1.0)).build(
        "a", 10, "a"
    )
    table, weights = weights_of(method)
    method.alpha.data.copy_(torch.tensor([[1.0, 0.5], [0.0, 0.25]]))
    factors = torch.cat(
        [
            torch.tensor([[1.0, 1.0, 0.5, 0.5]]).expand(5, 4),
            torch.tensor([[0.0, 0.0, 0.25, 0.25]]).expand(5, 4),
        ]
    )
    torch.testing.assert_close(method.materialize(weights), table * factors)


def test_a_factor_of_zero_kills_output_and_gradient_of_its_group():
    method = DnisConfig(embedding_dim=2, bands=1).build("a", 10, "a")
    method.alpha.data.copy_(torch.tensor([[0.0, 1.0]]))
    rows = torch.ones(3, 2, requires_grad=True)
    vectors = method.combine([rows])
    vectors.sum().backward()
    assert torch.equal(vectors[:, 0], torch.zeros(3))
    assert torch.equal(rows.grad, torch.tensor([[0.0, 1.0]]).expand(3, 2))


def test_factors_see_the_gradient_of_their_own_band():
    method = DnisConfig(embedding_dim=2, bands=2, init=NormalInit(std=1.0)).build("a", 10, "a")
    table, weights = weights_of(method)
    method.alpha.requires_grad_(True)
    ids = torch.tensor([1, 2, 7])
    rows = [weights[k.table][r] for k, r in zip(method.lookups, method.rows(ids), strict=True)]
    method.combine(rows).sum().backward()
    expected = torch.stack([table[1] + table[2], table[7]])
    torch.testing.assert_close(method.alpha.grad, expected)


@pytest.mark.parametrize(
    "options", [{"dim_groups": 3}, {"bands": (0.5, 0.6)}], ids=["groups", "shares"]
)
def test_what_does_not_divide_is_refused(options):
    with pytest.raises(ValueError, match=r"dim_groups that divide|sum to 1"):
        DnisConfig(embedding_dim=4, **options)


def test_only_a_search_trains_the_factors():
    method = DnisConfig(embedding_dim=4).build("a", 10, "a")
    assert [p.requires_grad for p in method.parameters()] == [False]


def test_shared_bands_without_ids_of_a_feature_have_no_rows_in_it():
    config = {"embedding_dim": 2, "bands": 4, "bands_over": "all_features"}
    method = DnisConfig(**config, band_ends=(3, 3, 10, 10)).build("a", 10, "a")
    assert method.bounds == (0, 3, 10)
    assert method.shared_bands == (0, 2)
    assert method.alpha.shape == (2, 2)


def test_shared_bands_come_from_a_search():
    config = DnisConfig(embedding_dim=2, bands_over="all_features")
    with pytest.raises(RecsysError, match="recsys search"):
        config.build("a", 10, "a")


@pytest.mark.parametrize("ends", [(4, 2, 10), (5, 9), ()])
def test_band_ends_that_do_not_divide_the_ids_are_refused(ends):
    config = DnisConfig(embedding_dim=2, bands_over="all_features", band_ends=ends)
    with pytest.raises(RecsysError, match="do not divide its ids"):
        config.build("a", 10, "a")
