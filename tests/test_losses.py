"""Losses against their formula."""

import pytest
import torch

from recsys.losses import Task, binary_cross_entropy

LOGITS = torch.tensor([2.0, -1.0, 0.0], dtype=torch.float64)
LABELS = torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64)
# -ln p(label): softplus(-2), softplus(1), ln 2
ROWS = torch.nn.functional.softplus(torch.tensor([-2.0, 1.0, 0.0], dtype=torch.float64))


def test_binary_cross_entropy_is_the_sum_over_rows_in_nats():
    assert binary_cross_entropy(LOGITS, LABELS).item() == pytest.approx(ROWS.sum().item())


def test_a_row_counts_by_its_weight():
    weights = torch.tensor([2.0, 0.0, 0.5], dtype=torch.float64)
    found = binary_cross_entropy(LOGITS, LABELS, weights)
    assert found.item() == pytest.approx((ROWS * weights).sum().item())
    ones = torch.ones_like(LABELS)
    assert torch.equal(
        binary_cross_entropy(LOGITS, LABELS, ones), binary_cross_entropy(LOGITS, LABELS)
    )


def test_a_task_is_trained_by_its_own_loss():
    def squared(logits, labels, weights=None):
        assert weights is None
        return (logits - labels).square().sum()

    assert Task("click", "label").loss(LOGITS, LABELS) == binary_cross_entropy(LOGITS, LABELS)
    assert Task("rating", "stars", squared).loss(LOGITS, LABELS).item() == pytest.approx(5.0)
