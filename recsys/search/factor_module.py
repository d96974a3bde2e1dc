"""The supernet of DNIS: factors are trained on architecture rows, everything else on train rows.

Bands over all features have shared factors: every feature holds a copy, and all copies take the
step of the summed gradient.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from recsys.config.run import RunConfig
from recsys.config.search import DnisSearchConfig
from recsys.config.train import TrainConfig
from recsys.data.batch import Batch
from recsys.distributed.context import Ranks
from recsys.embeddings.methods.dnis import Dnis
from recsys.errors import RecsysError
from recsys.models.ctr_model import CTRModel, Forward
from recsys.schema import Schema
from recsys.search.lookups import RowCopies, copied_rows, detached_tables
from recsys.search.scoring import ArchitectureRows, FactorRows, chooses
from recsys.training.lightning.module import CTRModule

TINY = 1e-8


class FactorModule(CTRModule):
    """Alternates steps.

    Α by SGD on an architecture batch, then everything else on a train batch.
    """

    def __init__(
        self,
        model: CTRModel,
        config: TrainConfig,
        ranks: Ranks,
        forward: Forward | None = None,
        *,
        run: RunConfig,
        schema: Schema,
        search: DnisSearchConfig,
    ) -> None:
        super().__init__(model, config, ranks, forward)
        if search.second_order and ranks.world_size > 1:
            raise RecsysError(
                "the second-order step needs whole tables, but they are sharded over ranks",
                where="search.second_order",
                expected="false, or one process",
                got=f"true on {ranks.world_size} processes",
            )
        self.search = search
        self.methods = dnis_methods(model)
        self.factors = [method.alpha for method in self.methods]
        self.rows = FactorRows(ArchitectureRows(run, schema, model, ranks))

    def training_step(self, batch: Batch, batch_index: int) -> None:
        if self.trainer.global_step >= self.search.warm_up_steps:
            self._factor_step(batch)
        super().training_step(batch, batch_index)

    def _step(self) -> None:
        is_searching = self.trainer.global_step >= self.search.warm_up_steps
        if is_searching and not self.search.train_network:
            for parameter in self.model.network.parameters():
                parameter.grad = None  # optimizers skip it
        super()._step()

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Scores only the rows that no factor was trained on."""
        if chooses(batch):
            super().validation_step(batch, batch_index)

    def _factor_step(self, train_batch: Batch) -> None:
        step = self.trainer.global_step
        batch = self.rows.at_step(step - self.search.warm_up_steps)
        with _requiring_gradients(self.factors):
            gradients = torch.autograd.grad(self._loss(train_batch, batch), self.factors)
        # fused Adam has counted these lookups as steps
        self.model.embeddings.store.restore_step_count(step)
        total = self.ranks.sum(torch.cat([g.flatten() for g in gradients]).cpu())
        flat = torch.split(total, [factor.numel() for factor in self.factors])
        parts = with_shared_bands(
            [part.view_as(factor) for factor, part in zip(self.factors, flat, strict=True)],
            [method.shared_bands for method in self.methods],
        )
        rate = self.search.alpha_learning_rate * self.learning_rate_factor
        with torch.no_grad():
            for factor, part in zip(self.factors, parts, strict=True):
                direction = self._direction(factor, part.to(factor.device))
                factor.sub_(rate * direction).clamp_(0.0, 1.0)

    def _loss(self, train_batch: Batch, batch: Batch) -> Tensor:
        """This rank's part of the mean log loss of an architecture batch."""
        if self.search.second_order:
            return looked_ahead(self.model, train_batch, batch, self.search.look_ahead)
        with detached_tables(self.model):
            return _mean_loss(self.model, batch)

    def _direction(self, factor: Tensor, gradient: Tensor) -> Tensor:
        """∇ log loss + l1, and each band's part divided by its mean magnitude; (bands, K)."""
        gradient = gradient + self.search.l1 * factor.sign()
        return normalized(gradient) if self.search.normalize else gradient


def looked_ahead(model: CTRModel, train_batch: Batch, batch: Batch, step: float) -> Tensor:
    """Log loss of `batch` after the tables' step E - ξ∇E on `train_batch`, as a function of α.

    The paper's second order (equation 7), exact: the step itself is differentiated. It is a step of
    the log loss alone, as there: without the tables' l2 and a model's auxiliary loss.
    """
    copies = RowCopies(model, (train_batch, batch))
    with copied_rows(model, copies, copies.weights):
        train_loss = _mean_loss(model, train_batch)
    gradients = torch.autograd.grad(train_loss, copies.weights, create_graph=True)
    moved = [w - step * g for w, g in zip(copies.weights, gradients, strict=True)]
    with copied_rows(model, copies, moved):
        return _mean_loss(model, batch)


def _mean_loss(model: CTRModel, batch: Batch) -> Tensor:
    logits, _ = model(batch)
    return model.task.loss(logits, batch.labels) / batch.global_rows


def normalized(gradient: Tensor) -> Tensor:
    """Scales each row (K,) to mean magnitude 1, unless it is zero.

    Otherwise frequent bands dominate.
    """
    return gradient / (gradient.abs().mean(dim=1, keepdim=True) + TINY)


def with_shared_bands(
    gradients: Sequence[Tensor], numbers: Sequence[tuple[int, ...] | None]
) -> list[Tensor]:
    """Each feature's gradient (bands, K); that of a shared band is summed over all features.

    `numbers`: the number of each row's shared band; None for a feature with bands of its own.
    """
    sums: dict[int, Tensor] = {}
    for gradient, bands in zip(gradients, numbers, strict=True):
        for row, band in zip(gradient, bands or (), strict=False):
            sums[band] = sums[band] + row if band in sums else row
    return [
        gradient if bands is None else torch.stack([sums[band] for band in bands])
        for gradient, bands in zip(gradients, numbers, strict=True)
    ]


def dnis_methods(model: CTRModel) -> list[Dnis]:
    """The methods that have factors, in feature order."""
    return [m for m in model.embeddings.methods.values() if isinstance(m, Dnis)]


@contextmanager
def _requiring_gradients(parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    for parameter in parameters:
        parameter.requires_grad_(True)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(False)
