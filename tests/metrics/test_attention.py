import numpy as np
import pytest

from recsys.metrics import compute_attention_by_rank
from recsys.metrics.attention.by_rank import compute_cell_means


def test_two_histories_by_hand():
    # oldest first: (0.2, 0.3, 0.5) and (0.4, 0.6)
    weights, ranks = np.array([0.2, 0.3, 0.5, 0.4, 0.6]), np.array([3, 2, 1, 2, 1])
    found = compute_attention_by_rank(weights, ranks)
    assert found.behaviors.tolist() == [2, 2, 1]
    assert found.mean_weight == pytest.approx([0.55, 0.35, 0.2])
    assert found.share == pytest.approx([0.55, 0.35, 0.1])


def test_shares_are_of_the_sizes_when_weights_have_signs():
    found = compute_attention_by_rank(np.array([-1.0, 3.0, 1.0, 1.0]), np.array([2, 1, 2, 1]))
    assert found.mean_weight == pytest.approx([2.0, 0.0])
    assert found.share == pytest.approx([4 / 6, 2 / 6])


def test_no_behaviors_and_no_weight_give_no_shares():
    assert len(compute_attention_by_rank(np.array([]), np.array([], int)).share) == 0
    assert compute_attention_by_rank(np.zeros(2), np.array([1, 2])).share.tolist() == [0, 0]


def test_a_weight_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="finite"):
        compute_attention_by_rank(np.array([np.nan]), np.array([1]))


def test_means_of_cells_by_hand():
    means, counts = compute_cell_means(
        np.array([1.0, 2.0, 5.0]), np.array([0, 0, 1]), np.array([1, 1, 0]), (2, 2)
    )
    assert means == pytest.approx(np.array([[np.nan, 1.5], [5.0, np.nan]]), nan_ok=True)
    assert counts.tolist() == [[0, 2], [1, 0]]
