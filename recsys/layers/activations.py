"""THE LIST of activations that a config can name."""

from collections.abc import Callable, Mapping
from typing import Annotated

from torch import nn

from recsys.config.base import NameIn
from recsys.layers.dice import Dice

# name → the layer (N, dim) → (N, dim) for `dim` columns; PReLU and Dice learn a slope for each
ACTIVATIONS: Mapping[str, Callable[[int], nn.Module]] = {
    "relu": lambda dim: nn.ReLU(),
    "prelu": nn.PReLU,
    "dice": Dice,
    "sigmoid": lambda dim: nn.Sigmoid(),
}
Activation = Annotated[str, NameIn(ACTIVATIONS)]
