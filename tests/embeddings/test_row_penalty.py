"""Penalties of looked-up rows against their formulas."""

import pytest
import torch

from recsys.data.batch import RowLookups
from recsys.data.jagged_ids import JaggedIds
from recsys.embeddings.table_spec import Lookup, NormalInit, TableSpec
from recsys.embeddings.tables.regularization import PooledPenalty, RowL2, UnpooledPenalty

TABLES = [TableSpec("a", 4, 2, NormalInit()), TableSpec("b", 3, 1, NormalInit())]
COUNTS = {"a": torch.tensor([1.0, 10.0, 5.0, 0.0]), "b": torch.tensor([2.0, 4.0, 8.0])}
A = torch.tensor([[1.0, 2.0], [0.0, 3.0], [2.0, 2.0], [1.0, 1.0]])
B = torch.tensor([[1.0], [2.0], [3.0]])
ROWS_A, ROWS_B = [1, 2, 1, 0, 1], [2, 2]
ROW_LOOKUPS = [Lookup("a/rows", "a"), Lookup("b/rows", "b")]


def asked() -> RowLookups:
    values = torch.tensor(ROWS_A + ROWS_B, dtype=torch.int32)
    bags = torch.tensor([1] * 5 + [1] * 2 + [0] * 3, dtype=torch.int32)
    rows = JaggedIds(keys=["a/rows", "b/rows"], values=values, lengths=bags)
    return RowLookups(rows, torch.tensor([[2, 2, 1]]), (5,), 2)


def found() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    a, b = A.clone().requires_grad_(), B.clone().requires_grad_()
    second = torch.cat([b[ROWS_B], torch.zeros(3, 1)])
    return a, b, torch.cat([a[ROWS_A], second], dim=1)


def test_every_occurrence_pays_its_share_of_an_epoch():
    _, _, vectors = found()
    paid = UnpooledPenalty(TABLES, ROW_LOOKUPS, COUNTS, RowL2(0.6))(asked(), vectors)
    squares = {"a": A.square().sum(1), "b": B.square().sum(1)}
    expected = sum(squares["a"][r] / COUNTS["a"][r] for r in ROWS_A)
    expected = expected + sum(squares["b"][r] / COUNTS["b"][r] for r in ROWS_B)
    torch.testing.assert_close(paid, 0.6 / 3 * expected)  # 3 rows in the batch


def test_mini_batch_aware_gradient_is_lambda_w_over_n_once_per_batch():
    lambda_ = 0.01
    a, b, vectors = found()
    charge = RowL2(0.5 * lambda_, is_once_per_batch=True)
    UnpooledPenalty(TABLES, ROW_LOOKUPS, COUNTS, charge)(asked(), vectors).backward()
    for weight, counts, rows in ((a, COUNTS["a"], ROWS_A), (b, COUNTS["b"], ROWS_B)):
        for row in range(len(weight)):
            is_there = float(row in rows)  # α of the paper, whatever the number of occurrences
            expected = lambda_ * is_there / max(float(counts[row]), 1.0) * weight[row].detach()
            torch.testing.assert_close(weight.grad[row], expected)


@pytest.mark.parametrize("is_once", [False, True])
def test_single_valued_lookups_pay_as_occurrences_do(is_once):
    lookups = [Lookup("a", "a"), Lookup("b", "b")]
    rows_a, rows_b = torch.tensor([1, 2, 1]), torch.tensor([0, 2, 2])
    physical = JaggedIds(
        keys=["a", "b"], values=torch.cat([rows_a, rows_b]).int(), lengths=torch.ones(6).int()
    )
    charge = RowL2(0.6, is_once_per_batch=is_once)
    vectors = torch.cat([A[rows_a], B[rows_b]], dim=1)
    pooled = PooledPenalty(TABLES, lookups, COUNTS, charge)(RowLookups(physical), vectors)
    keyed = JaggedIds(
        keys=["a/rows", "b/rows"], values=physical.values(), lengths=physical.lengths()
    )
    single = RowLookups(keyed, torch.ones(2, 3), (3, 3), 1)
    unpooled = UnpooledPenalty(TABLES, ROW_LOOKUPS, COUNTS, charge)(single, vectors)
    torch.testing.assert_close(pooled, unpooled)
