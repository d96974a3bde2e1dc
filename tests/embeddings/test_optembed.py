"""OptEmbed's supernet: the long-tail derivative, the row mask, the drawn columns."""

import pytest
import torch

from recsys.embeddings.methods.optembed import LongTailStep, OptEmbed, OptEmbedConfig
from recsys.embeddings.table_spec import NormalInit

ROWS = torch.tensor([[0.1, -0.2], [0.0, 0.0], [0.5, 0.5], [-0.05, 0.0]])  # L1: .3, 0, 1, .05


def method_of(**options) -> OptEmbed:
    config = OptEmbedConfig.model_validate({"embedding_dim": 2, **options})
    return config.build("a", 4, "a").eval()


DERIVATIVES = [
    (0.0, 2.0),
    (0.1, 1.6),
    (0.25, 1.0),
    (0.4, 0.4),
    (0.7, 0.4),
    (1.0, 0.4),
    (1.0001, 0.0),
]


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize(("distance", "derivative"), DERIVATIVES)
def test_the_derivative_of_the_step_has_a_long_tail(distance, derivative, sign):
    x = torch.tensor([sign * distance], dtype=torch.float64, requires_grad=True)
    step = LongTailStep.apply(x)
    step.backward()
    assert step.item() == float(sign * distance > 0)
    assert x.grad.item() == pytest.approx(derivative, abs=1e-12)


def test_threshold_zero_drops_only_rows_that_are_zero():
    assert torch.equal(method_of().combine([ROWS]), ROWS)
    assert method_of().row_mask(ROWS).tolist() == [1, 0, 1, 1]


def test_a_row_counts_when_its_norm_is_strictly_above_the_threshold():
    method = method_of()
    method.threshold.data.fill_(0.5)
    exact = torch.tensor([[0.25, 0.25], [0.25, 0.2500001]])
    assert method.row_mask(exact).tolist() == [0, 1]
    method.threshold.data.fill_(1e9)
    assert not method.combine([ROWS]).any()


def test_norm_2_is_euclidean():
    method = method_of(norm=2)
    method.threshold.data.fill_(4.99)
    assert method.row_mask(torch.tensor([[3.0, 4.0], [3.0, 3.9]])).tolist() == [1, 0]


def test_the_gradient_reaches_rows_and_threshold():
    method = method_of()
    method.threshold.requires_grad_(True)
    method.threshold.data.fill_(0.2)
    rows = torch.tensor([[0.1, -0.2]], requires_grad=True)  # norm .3, distance .1, derivative 1.6
    upstream = torch.tensor([[2.0, 3.0]])
    method.combine([rows]).backward(upstream)
    through_step = 1.6 * (2.0 * 0.1 + 3.0 * -0.2)  # d loss / d mask × derivative
    assert method.threshold.grad.item() == pytest.approx(-through_step)
    expected = upstream + through_step * torch.tensor([[1.0, -1.0]])
    torch.testing.assert_close(rows.grad, expected)


def test_while_training_each_id_gets_a_prefix_of_columns_of_any_length():
    method = OptEmbedConfig(embedding_dim=4, variant="dims").build("a", 9, "a")
    torch.manual_seed(0)
    kept = method.combine([torch.ones(4000, 4)])
    lengths = kept.sum(1).long()
    assert torch.equal(kept, (torch.arange(4) < lengths[:, None]).float())  # nested prefixes
    shares = torch.bincount(lengths, minlength=5) / 4000
    assert shares[0] == 0
    torch.testing.assert_close(shares[1:], torch.full((4,), 0.25), atol=0.03, rtol=0)


def test_scoring_uses_all_columns_or_those_that_are_chosen():
    method = method_of(variant="dims")
    assert torch.equal(method.combine([ROWS]), ROWS)
    method.kept_dims = 1
    assert torch.equal(method.combine([ROWS]), ROWS * torch.tensor([1.0, 0.0]))


def test_variants():
    assert method_of(variant="dims").threshold is None
    assert method_of(variant="dims").commutes_with_sum
    assert not method_of(variant="rows").samples_dims
    assert not method_of(variant="rows").commutes_with_sum
    rows = method_of(variant="rows").train()
    assert torch.equal(rows.combine([ROWS]), ROWS)


def test_only_a_search_trains_the_threshold():
    assert [p.requires_grad for p in method_of().parameters()] == [False]


def test_the_papers_start_is_xavier_uniform_over_the_ids_of_all_features():
    config = OptEmbedConfig(embedding_dim=16, start="xavier_uniform")
    resolved = config.resolve({"a": 300, "b": 68})
    for name in ("a", "b"):
        init = resolved[name].build(name, 300, name).table.init
        assert init.bound == pytest.approx((6 / (300 + 68 + 16)) ** 0.5)


def test_xavier_uniform_beside_an_init_is_refused():
    with pytest.raises(ValueError, match="either init or start"):
        OptEmbedConfig(embedding_dim=2, start="xavier_uniform", init=NormalInit(std=0.1))
