"""What methods say of themselves, decoded with numpy: the vectors that they compute with torch."""

import json
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

from recsys.embeddings.id_mapping.hashing import hash_step
from recsys.embeddings.id_mapping.partitions import MixedRadix, QuotientRemainder
from recsys.embeddings.methods import MethodConfig
from recsys.embeddings.methods.compositional import CompositionalConfig
from recsys.embeddings.methods.hashed import HashedConfig
from recsys.embeddings.methods.pruned import BandConfig, PrunedConfig
from recsys.embeddings.table_spec import RowsOf
from recsys.lookup_spec import Product, Rule, Sum, TableLookup, looked_up
from recsys.serving.decoder import Decoder
from tests.embeddings.examples import CARDINALITY, DIM, EXAMPLES, kept_text
from tests.embeddings.test_toy_method import WeightedHash, WeightedHashConfig
from tests.embeddings.test_variants import VARIANTS

# supernets of a search: what the search finds is exported as `pruned`
WITHOUT_NATIVE_FORM = {"optembed", "dnis"}
BANDS = (BandConfig(first=1, end=5, dims=(0, 3)), BandConfig(first=9, end=40, dims=(2,)))
THIRD = torch.arange(CARDINALITY) % 3 == 1
RADICES = MixedRadix(sizes=(2, 5, 5))
METHODS = {
    **{config.method: config for config in EXAMPLES if config.method not in WITHOUT_NATIVE_FORM},
    **VARIANTS,
    # as exported before salts were by feature
    "hashed, common salts": HashedConfig(
        embedding_dim=DIM, num_buckets=20, num_hashes=2, salts="common"
    ),
    "separate": CompositionalConfig(
        embedding_dim=DIM, partitions=MixedRadix(k=3), operation="separate"
    ),
    "path": CompositionalConfig(
        embedding_dim=2, partitions=RADICES, operation="path_mlp", hidden_dim=1
    ),
    "nothing kept": PrunedConfig(embedding_dim=DIM, kept=0),
    "few columns": PrunedConfig(embedding_dim=DIM, dims=3),
    "bands": PrunedConfig(embedding_dim=DIM, bands=BANDS),
    "projected bands": PrunedConfig(embedding_dim=DIM, bands=BANDS, output="project"),
    "compact": PrunedConfig(embedding_dim=DIM, kept=20, dims=2, output="compact"),
    "scattered": PrunedConfig(
        embedding_dim=DIM, kept=kept_text(torch.arange(CARDINALITY) % 3 == 1)
    ),
}


class WeightedHashWithRule(WeightedHash):
    """The toy method of docs/add_a_method.md, in primitives that the decoder knows already."""

    def rule(self):
        step = hash_step(0, self.tables()[0].num_rows)
        row, weight = looked_up(2)
        lookups = TableLookup(table="t", steps=(step,)), TableLookup(table="t/weight")
        return Rule(lookups=lookups, vector=Sum(of=(row, Product(of=(row, weight)))))


@pytest.fixture(params=[*METHODS, "toy"])
def method(request):
    if request.param == "toy":
        toy = WeightedHashConfig(embedding_dim=DIM, num_buckets=7).build("f", CARDINALITY, "t")
        return WeightedHashWithRule("f", toy.tables())
    config = METHODS[request.param]
    return config.resolve({"f": CARDINALITY})["f"].build("f", CARDINALITY, "t").eval()


def fill(method):
    """Large random numbers everywhere; rows that start as zeros stay zeros."""
    generator = torch.Generator().manual_seed(0)
    weights = {}
    with torch.no_grad():
        for table in method.tables():
            weights[table.name] = torch.randn(table.num_rows, table.dim, generator=generator)
            if isinstance(table.init, RowsOf):
                weights[table.name][table.init.rows < 0] = 0.0
        for parameter in method.parameters():
            parameter.normal_(generator=generator)
    return weights


def test_a_rule_makes_the_methods_vectors(method):
    weights = fill(method)
    with torch.no_grad():
        expected = method.materialize(weights).numpy()
    own = dict([*method.named_parameters(), *method.named_buffers()])
    rule = method.rule()
    tensors = {name: own[name].detach().numpy() for name in rule.tensors()}
    tables = {name: weight.numpy() for name, weight in weights.items()}
    got = Decoder(rule, tables, tensors, "f").vectors(np.arange(CARDINALITY))
    assert got.shape == (CARDINALITY, method.output_dim)
    np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-6)


def test_a_rule_needs_no_more_and_no_less_than_the_method_owns(method):
    rule = method.rule()
    own = {name for name, _ in (*method.named_parameters(), *method.named_buffers())}
    assert rule.tensors() == own
    assert {look.table for look in rule.lookups} == {table.name for table in method.tables()}


def test_the_documentation_shows_a_rule():
    shown = (Path(__file__).parents[2] / "docs" / "export.md").read_text().split("```json\n")[1]
    config = CompositionalConfig(
        embedding_dim=DIM, partitions=QuotientRemainder(num_remainders=100)
    )
    rule = config.build("C1", 5000, "C1").rule()
    assert json.loads(shown.split("```")[0]) == rule.model_dump(mode="json", exclude_none=True)


def test_only_supernets_of_a_search_have_no_native_form():
    named = {c.model_fields["method"].default for c in get_args(get_args(MethodConfig)[0])}
    lacking = {
        config.method for config in EXAMPLES if config.build("f", CARDINALITY, "t").rule() is None
    }
    assert lacking == WITHOUT_NATIVE_FORM & named
