"""Complementary partitions and what is made of their rows (Shi et al. 2020, §3 and §4)."""

import itertools
import math

import pytest
import torch

from recsys.config.base import validate
from recsys.embeddings.config import EmbeddingsConfig
from recsys.embeddings.id_mapping.partitions import (
    ChineseRemainder,
    MixedRadix,
    QuotientRemainder,
    least_remainders,
)
from recsys.embeddings.methods.compositional import CompositionalConfig
from recsys.embeddings.table_spec import NormalInit, UniformInit
from recsys.errors import RecsysError
from tests.embeddings.criteo import CRITEO, CRITEO_SIZES

QR7 = QuotientRemainder(num_remainders=7)


def built(operation="multiply", partitions=QR7, cardinality=100, dim=6, **options):
    config = CompositionalConfig(
        embedding_dim=dim, partitions=partitions, operation=operation, **options
    )
    return config.build("a", cardinality, "a")


def random_weights(method, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    return {
        table.name: torch.randn(table.num_rows, table.dim, generator=generator, dtype=dtype)
        for table in method.tables()
    }


def floats_of(methods) -> int:
    return sum(t.num_rows * t.dim for method in methods for t in method.tables())


@pytest.mark.parametrize(("m", "golden"), [(4, 135_052_128), (60, 9_028_560)])
def test_golden_sizes_of_criteo_without_a_threshold(m, golden):
    rule = QuotientRemainder(num_remainders=m)
    rows = sum(p.size for name, size in CRITEO.items() for p in rule.partitions(name, size))
    assert rows * 16 == golden


@pytest.mark.parametrize(("m", "golden"), [(4, 135_054_048), (60, 9_024_032)])
def test_golden_sizes_of_criteo_with_threshold_200(m, golden):
    rule = QuotientRemainder(num_remainders=m)
    config = CompositionalConfig(embedding_dim=16, partitions=rule, full_below=200)
    resolved = config.resolve(CRITEO)
    assert floats_of(resolved[f].build(f, v, f) for f, v in CRITEO.items()) == golden


@pytest.mark.parametrize("m", [1, 3, 7, 60, 99])
def test_quotient_and_remainder_rebuild_the_id(m):
    quotient, remainder = QuotientRemainder(num_remainders=m).partitions("a", 100)
    ids = torch.arange(100, dtype=torch.int32)
    assert torch.equal(quotient.classes(ids) * m + remainder.classes(ids), ids.long())
    assert quotient.size == math.ceil(100 / m)


# the first ids whose quotient float32 division gets wrong
@pytest.mark.parametrize(
    ("m", "first_wrong"), [(3, 16_777_221), (4, 16_777_219), (7, 16_777_229), (60, 16_777_259)]
)
def test_quotients_are_exact_beyond_two_to_the_24(m, first_wrong):
    quotient, remainder = QuotientRemainder(num_remainders=m).partitions("a", 2**31 - 1)
    ids = torch.tensor([first_wrong, 2**31 - 2], dtype=torch.int32)
    assert quotient.classes(ids).tolist() == [i // m for i in ids.tolist()]
    assert remainder.classes(ids).tolist() == [i % m for i in ids.tolist()]
    assert quotient.classes(ids).max() < quotient.size


def test_collisions_are_how_many_ids_share_a_remainders_row():
    quotient, remainder = QuotientRemainder(num_collisions=4).partitions("a", 101)
    assert (quotient.size, remainder.size) == (4, 26)


@pytest.mark.parametrize(
    "rule",
    [
        MixedRadix(sizes=(3, 5, 7)),
        MixedRadix(k=2),
        MixedRadix(k=3),
        ChineseRemainder(sizes=(3, 5, 7)),
        ChineseRemainder(k=2),
        ChineseRemainder(k=3),
        ChineseRemainder(sizes=(9, 15, 7)),  # not coprime, but their lcm is 315
        QuotientRemainder(num_collisions=3),
    ],
    ids=str,
)
@pytest.mark.parametrize("cardinality", [2, 50, 105])
def test_every_id_has_classes_of_its_own(rule, cardinality):
    partitions = rule.partitions("a", cardinality)
    ids = torch.arange(cardinality)
    classes = torch.stack([partition.classes(ids) for partition in partitions])
    assert len(set(map(tuple, classes.T.tolist()))) == cardinality
    for partition, of_ids in zip(partitions, classes, strict=True):
        assert of_ids.min() >= 0
        assert of_ids.max() < partition.size


@pytest.mark.parametrize("operation", ["multiply", "add", "concat"])
def test_a_partition_of_one_class_is_refused(operation):
    with pytest.raises(RecsysError, match="8 ids are too few for 4 partitions") as refused:
        built(operation, MixedRadix(k=4), 8)
    assert "2, 2, 2, 1" in str(refused.value)


def test_mixed_radix_is_the_digits_of_the_id():
    partitions = MixedRadix(sizes=(3, 5, 7)).partitions("a", 105)
    digits = [partition.classes(torch.arange(105)) for partition in partitions]
    assert torch.equal(digits[0] + 3 * digits[1] + 15 * digits[2], torch.arange(105))


@pytest.mark.parametrize("cardinality", CRITEO_SIZES)
@pytest.mark.parametrize("k", [2, 3, 4])
def test_k_partitions_need_about_k_roots_of_the_ids(cardinality, k):
    least = k * cardinality ** (1 / k)
    radices = [p.size for p in MixedRadix(k=k).partitions("a", cardinality)]
    coprimes = [p.size for p in ChineseRemainder(k=k).partitions("a", cardinality)]
    assert math.prod(radices) >= cardinality
    assert math.prod(coprimes) >= cardinality
    assert all(math.gcd(a, b) == 1 for a, b in itertools.combinations(coprimes, 2))
    assert sum(radices) <= least + k
    assert sum(coprimes) <= least + 5 * k


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (MixedRadix(sizes=(9, 11)), "ids 0 and 99 apart: their product is too small"),
        (ChineseRemainder(sizes=(9, 11)), "ids 0 and 99 apart: their product is too small"),
        (ChineseRemainder(sizes=(12, 16)), "ids 0 and 48 apart: they are not pairwise coprime"),
    ],
)
def test_partitions_that_cannot_tell_two_ids_apart_are_refused(rule, message):
    with pytest.raises(RecsysError, match=f"a: the partitions cannot tell {message}"):
        built(partitions=rule)


@pytest.mark.parametrize("operation", ["multiply", "add", "concat"])
@pytest.mark.parametrize("m", [1, 2, 3, 4, 100])
def test_partitions_that_save_nothing_are_refused(m, operation):
    rule = QuotientRemainder(num_remainders=m)
    with pytest.raises(RecsysError, match="a: these partitions save nothing"):
        built(operation, rule, cardinality=3)


def test_mlps_larger_than_the_table_are_refused():
    with pytest.raises(RecsysError, match="fewer than a full table's 100 rows and 600 floats"):
        built("path_mlp", hidden_dim=64)


def test_every_partition_needs_a_column():
    with pytest.raises(RecsysError, match="3 partitions cannot share 2 columns"):
        built("concat", MixedRadix(k=3), dim=2)


@pytest.mark.parametrize("options", [{"operation": "path_mlp"}, {"hidden_dim": 8}])
def test_hidden_dim_goes_with_a_path_alone(options):
    content = {
        "default": {
            "method": "compositional",
            "embedding_dim": 4,
            "partitions": {"kind": "mixed_radix", "k": 2},
            **options,
        }
    }
    with pytest.raises(RecsysError, match="hidden_dim with operation path_mlp"):
        validate(EmbeddingsConfig, content, "test")


def test_small_features_stay_full():
    config = CompositionalConfig(embedding_dim=4, partitions=QR7, full_below=50)
    resolved = config.resolve({"a": 50, "b": 51})
    assert [resolved[f].build(f, 51, f).name for f in ("a", "b")] == ["full_table", "compositional"]


def test_a_row_share_of_one_table_solves_the_quadratic():
    cardinality, share = 1_000_000, 0.01
    rows = share * cardinality
    root = (rows - math.sqrt(rows**2 - 4 * cardinality)) / 2
    m = least_remainders({"a": cardinality}, share)
    assert m == math.ceil(root) == 102  # 101.02…: rounded down, 9,901 + 101 would be 2 too many
    assert m + math.ceil(cardinality / m) <= rows


@pytest.mark.parametrize("share", [0.5, 0.1, 0.01])
def test_a_row_share_is_met_over_all_features(share):
    rule = QuotientRemainder(row_share=share)
    config = CompositionalConfig(embedding_dim=16, partitions=rule)
    resolved = config.resolve(CRITEO)
    total = sum(CRITEO_SIZES)
    assert floats_of(resolved[f].build(f, v, f) for f, v in CRITEO.items()) <= share * total * 16
    m = least_remainders(CRITEO, share)
    fewer = sum(min(v, math.ceil(v / (m - 1)) + m - 1) for v in CRITEO_SIZES)
    assert fewer > share * total  # the least m that does
    assert resolved["C9"].method == "full_table"  # 3 ids


def test_a_row_share_below_the_least_is_refused():
    with pytest.raises(RecsysError, match=r"a row_share of at least 0\.02"):  # 2 / √10,000
        least_remainders({"a": 10_000}, 0.019)
    assert least_remainders({"a": 10_000}, 0.02) == 100


def test_each_operation_is_its_formula():
    ids = torch.arange(100)
    for operation in ("multiply", "add", "concat", "separate"):
        method = built(operation)
        weights = random_weights(method)
        q, r = weights["a/0"][ids // 7], weights["a/1"][ids % 7]
        expected = {"multiply": q * r, "add": q + r}.get(operation, torch.cat([q, r], 1))
        torch.testing.assert_close(method.materialize(weights), expected)


def test_concat_shares_the_columns_and_separate_does_not():
    rule = MixedRadix(sizes=(5, 5, 5))
    assert [t.dim for t in built("concat", rule, dim=7).tables()] == [3, 2, 2]
    assert built("concat", rule, dim=7).output_dim == 7
    assert [t.dim for t in built("separate", rule, dim=7).tables()] == [7, 7, 7]
    assert built("separate", rule, dim=7).output_dim == 21


def test_a_path_is_an_mlp_for_each_class():
    method = built("path_mlp", MixedRadix(sizes=(2, 600, 2)), 2000, dim=3, hidden_dim=5)
    weights = random_weights(method)
    vectors = method.materialize(weights)
    for i in (0, 1, 999, 1999):
        path = weights["a/0"][i // 2 % 600]  # the largest partition's
        for j, label in ((1, i % 2), (3, i // 1200)):
            first, second = weights[f"a/{j}"][label], weights[f"a/{j + 1}"][label]
            hidden = torch.relu(path @ first[:15].view(3, 5) + first[15:])
            path = hidden @ second[:15].view(5, 3) + second[15:]
        torch.testing.assert_close(vectors[i], path)


def test_as_many_remainders_as_ids_are_a_plain_table_times_one_row():
    quotient, remainder = QuotientRemainder(num_remainders=100).partitions("a", 100)
    ids = torch.arange(100)
    assert not quotient.classes(ids).any()
    assert torch.equal(remainder.classes(ids), ids)


def test_a_sum_has_no_more_rank_than_rows():
    method = built("add", dim=64)
    table = method.materialize(random_weights(method))
    assert torch.linalg.matrix_rank(table) <= sum(t.num_rows for t in method.tables())


@pytest.mark.parametrize("operation", ["multiply", "add", "concat", "separate", "path_mlp"])
def test_gradients_are_those_of_the_formula(operation):
    hidden = {"hidden_dim": 2} if operation == "path_mlp" else {}
    method = built(operation, MixedRadix(sizes=(2, 60)), 120, dim=3, **hidden)
    rows = method.rows(torch.tensor([0, 5, 119]))
    tables = tuple(w.requires_grad_() for w in random_weights(method).values())

    def look_up(*tables):
        return method.combine([table[row] for table, row in zip(tables, rows, strict=True)])

    assert torch.autograd.gradcheck(look_up, tables)


def test_a_quotient_rows_gradient_sums_gradient_times_remainder():
    method, ids = built("multiply"), torch.tensor([3, 5, 3, 99])
    weights = {name: w.requires_grad_() for name, w in random_weights(method).items()}
    upstream = torch.randn(4, 6, dtype=torch.float64)
    q, r = weights["a/0"], weights["a/1"]
    method.combine([q[ids // 7], r[ids % 7]]).backward(upstream)
    with torch.no_grad():
        expected = torch.zeros_like(q).index_add(0, ids // 7, upstream * r[ids % 7])
    torch.testing.assert_close(q.grad, expected)


@pytest.mark.parametrize("operation", ["multiply", "add", "concat", "separate", "path_mlp"])
@pytest.mark.parametrize("rule", [QuotientRemainder(num_remainders=40), MixedRadix(k=3)], ids=str)
@pytest.mark.parametrize("init", [NormalInit(std=0.05), UniformInit(bound=0.1)], ids=str)
def test_initial_variance_equals_a_plain_tables(operation, rule, init):
    hidden = {"hidden_dim": 16} if operation == "path_mlp" else {}
    config = CompositionalConfig(
        embedding_dim=64, partitions=rule, operation=operation, init=init, **hidden
    )
    method = config.build("a", 2_000_000, "a")
    generator = torch.Generator().manual_seed(0)
    weights = {}
    for table in method.tables():
        weights[table.name] = torch.empty(table.num_rows, table.dim)
        table.init.fill_(weights[table.name], generator)
    ids = torch.randint(2_000_000, (2000,), generator=generator)
    vectors = method.combine(
        [weights[t.name][rows] for t, rows in zip(method.tables(), method.rows(ids), strict=True)]
    )
    std = init.std if isinstance(init, NormalInit) else init.bound / math.sqrt(3)
    assert vectors.std().item() == pytest.approx(std, rel=0.1)


def test_which_operations_commute_with_sum_pooling():
    commuting = {op: built(op).commutes_with_sum for op in ("multiply", "add", "concat")}
    assert commuting == {"multiply": False, "add": True, "concat": True}
    assert not built("path_mlp", cardinality=3000, hidden_dim=1).commutes_with_sum
