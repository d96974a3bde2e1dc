"""THE LIST of dense optimizers, which train everything but the embedding tables."""

from collections.abc import Iterable
from typing import Annotated, Any, NamedTuple

import torch
from pydantic import NonNegativeFloat, PositiveFloat
from torch import nn

from recsys.config.base import BaseConfig, NameIn


class DenseOptimizer(NamedTuple):
    """`torch_class` takes lr and weight_decay and keeps `state_floats` floats for each weight."""

    torch_class: type[torch.optim.Optimizer]
    state_floats: int


DENSE_OPTIMIZERS: dict[str, DenseOptimizer] = {
    "adam": DenseOptimizer(torch.optim.Adam, state_floats=2),
    "adamw": DenseOptimizer(torch.optim.AdamW, state_floats=2),
    "adagrad": DenseOptimizer(torch.optim.Adagrad, state_floats=1),
    "sgd": DenseOptimizer(torch.optim.SGD, state_floats=0),
}


class DenseOptimizerConfig(BaseConfig):
    """The optimizer of everything except the embedding tables."""

    name: Annotated[str, NameIn(DENSE_OPTIMIZERS)] = "adam"  # the optimizer
    learning_rate: PositiveFloat  # before plateaus
    weight_decay: NonNegativeFloat = 0.0  # as torch defines it for the optimizer

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """The torch optimizer of these parameters."""
        options: dict[str, Any] = {"lr": self.learning_rate, "weight_decay": self.weight_decay}
        return DENSE_OPTIMIZERS[self.name].torch_class(parameters, **options)
