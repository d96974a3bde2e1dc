"""The supernet of OptEmbed: weights as usual, and a threshold for each feature."""

import torch
from torch import Tensor, nn

from recsys.config.search import OptEmbedSearchConfig
from recsys.config.train import TrainConfig
from recsys.distributed.context import Ranks
from recsys.embeddings.methods.optembed import OptEmbed
from recsys.models.ctr_model import CTRModel, Forward
from recsys.training.lightning.module import CTRModule


class ThresholdModule(CTRModule):
    """Adds a step of plain SGD on the thresholds t to each step, on log loss + α·Σ exp(-t)."""

    def __init__(
        self,
        model: CTRModel,
        config: TrainConfig,
        ranks: Ranks,
        forward: Forward | None = None,
        *,
        search: OptEmbedSearchConfig,
    ) -> None:
        super().__init__(model, config, ranks, forward)
        self.search = search
        self.thresholds = thresholds_of(model)
        for threshold in self.thresholds:
            # After data parallel wrappers are made: they must not reduce these gradients.
            threshold.requires_grad_(True)

    def _step(self) -> None:
        gradients = [_take_gradient(threshold) for threshold in self.thresholds]
        super()._step()
        if gradients:
            self._move_thresholds(torch.cat(gradients))

    @torch.no_grad()
    def _move_thresholds(self, local_gradient: Tensor) -> None:
        """`local_gradient`: (F,) of the loss of this rank, weighted by its share of the rows."""
        total = self.ranks.sum(local_gradient.cpu()).to(local_gradient.device)
        rate = self.search.threshold_learning_rate * self.learning_rate_factor
        means = total / self.ranks.world_size
        for threshold, gradient in zip(self.thresholds, means, strict=True):
            push = self.search.regularizer * torch.exp(-threshold)
            threshold.sub_(rate * (gradient - push))


def thresholds_of(model: CTRModel) -> list[nn.Parameter]:
    """The thresholds, in feature order."""
    methods = model.embeddings.methods.values()
    found = [method.threshold for method in methods if isinstance(method, OptEmbed)]
    return [threshold for threshold in found if threshold is not None]


def _take_gradient(parameter: nn.Parameter) -> Tensor:
    """Returns the gradient and removes it, so that no optimizer uses it."""
    gradient, parameter.grad = parameter.grad, None
    return torch.zeros_like(parameter) if gradient is None else gradient
