"""The list of activations: an entry can be named in a config, and is what the MLP has."""

import pytest
from torch import nn

from recsys.config.base import validate
from recsys.errors import RecsysError
from recsys.history_pair import HistoryPair
from recsys.layers.activations import ACTIVATIONS
from recsys.layers.mlp import build_mlp
from recsys.models.base import Field, HistoryShape
from recsys.models.din import DINConfig

PAIRS = [{"target": ["item"], "history": ["clicks"]}]


@pytest.fixture
def _with_gelu(monkeypatch):
    monkeypatch.setitem(ACTIVATIONS, "gelu", lambda dim: nn.GELU())


@pytest.mark.usefixtures("_with_gelu")
def test_an_activation_of_the_list_is_accepted_in_a_config_and_built():
    config = validate(
        DINConfig, {"pairs": PAIRS, "activation": "gelu", "attention_activation": "gelu"}, "test"
    )
    assert config.pairs == (HistoryPair(target=("item",), history=("clicks",)),)
    model = config.build([Field("item", 4)], 0, [HistoryShape((4,), (4,), 5)])
    kinds = [type(module) for module in model.modules()]
    assert kinds.count(nn.GELU) == len(config.hidden_dims) + len(config.attention_hidden_dims)


@pytest.mark.usefixtures("_with_gelu")
def test_the_message_for_an_unknown_activation_lists_all_entries():
    with pytest.raises(RecsysError) as caught:
        validate(DINConfig, {"pairs": PAIRS, "activation": "gelo"}, "test")
    message = str(caught.value)
    assert "unknown activation 'gelo'" in message
    assert "test: activation" in message
    assert ", ".join(ACTIVATIONS) in message
    assert "did you mean 'gelu'?" in message


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_is_a_layer_of_the_width(name):
    layers = list(build_mlp(3, [5], activation=name))
    assert len(layers) == 2
    slopes = [p for p in layers[1].parameters() if p.dim()]
    assert all(slope.shape == (5,) for slope in slopes)
