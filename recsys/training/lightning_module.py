"""The only place where model, loss, metrics and optimisers meet."""

from typing import Any

import lightning
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from recsys.data.batch import Batch, Cursor
from recsys.errors import RecsysError
from recsys.metrics import compute_auc, compute_log_loss
from recsys.models.ctr_model import CTRModel
from recsys.train_config import TrainConfig

DENSE_OPTIMIZERS: dict[str, type[torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "adagrad": torch.optim.Adagrad,
    "sgd": torch.optim.SGD,
}


class CTRModule(lightning.LightningModule):
    """Trains a CTRModel on the mean log loss plus the tables' L2 penalty.

    Optimisation is manual: fused tables are updated inside backward, so a closure that ran backward
    twice would train them twice.
    """

    def __init__(self, model: CTRModel, config: TrainConfig) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.model = model
        self.config = config
        self.learning_rate_factor = 1.0
        self.trained = Cursor(0, -1)
        self._rng_state: Tensor | None = None
        self._scored: list[tuple[np.ndarray, np.ndarray]] = []

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        dense = self.config.dense_optimizer
        optimizer = DENSE_OPTIMIZERS[dense.name](
            self.model.dense_parameters(),
            lr=dense.learning_rate,
            weight_decay=dense.weight_decay,  # type: ignore[call-arg]  # all four take it
        )
        return [optimizer, *self.model.embeddings.store.optimizers()]

    def on_train_start(self) -> None:
        if self._rng_state is not None:
            torch.set_rng_state(self._rng_state)
            self._rng_state = None

    def training_step(self, batch: Batch, batch_index: int) -> None:
        """One optimiser step on one batch."""
        dense, *others = self._optimizers()
        logits, penalty = self.model(batch)
        loss = F.binary_cross_entropy_with_logits(logits, batch.labels)
        if batch_index % self.config.log_every_steps == 0 or loss.device.type == "cpu":
            self._check_finite(loss, batch)
        for optimizer in (dense, *others):
            optimizer.zero_grad()
        self.manual_backward(loss + penalty)
        if self.config.gradient_clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.gradient_clip_norm)
        dense.step()
        for optimizer in others:
            # The bare optimiser: Lightning counts each step of its wrappers as a training step.
            optimizer.optimizer.step()
        self.trained = batch.cursor
        self.log("train/loss", loss.detach(), batch_size=len(batch))

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        logits, _ = self.model(batch)
        self._scored.append((logits.float().cpu().numpy(), batch.labels.cpu().numpy()))

    def on_validation_epoch_end(self) -> None:
        logits, labels = (np.concatenate(parts) for parts in zip(*self._scored, strict=True))
        self._scored.clear()
        auc = compute_auc(logits, labels)
        if auc is None:
            raise RecsysError(
                "the valid split has rows of one class only, so no AUC can choose the best model",
                expected="labels 0 and 1",
                got=f"only {labels[0]:g}",
                fix="prepare the data with another split",
            )
        self.log("valid/auc", torch.tensor(auc, dtype=torch.float64))
        self.log(
            "valid/log_loss", torch.tensor(compute_log_loss(logits, labels), dtype=torch.float64)
        )

    def scale_learning_rates(self, factor: float) -> None:
        """Sets every learning rate, the tables' too, to `factor` × the configured one."""
        self.learning_rate_factor = factor
        dense, *_ = self._optimizers()
        for group in dense.param_groups:
            group["lr"] = self.config.dense_optimizer.learning_rate * factor
        self.model.embeddings.store.scale_learning_rate(factor)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["recsys"] = {
            "trained": list(self.trained),
            "learning_rate_factor": self.learning_rate_factor,
            "rng_state": torch.get_rng_state(),
            "fused_state": self.model.embeddings.store.fused_state(),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        state = checkpoint["recsys"]
        self.trained = Cursor(*state["trained"])
        self._rng_state = state["rng_state"]
        live = self.model.embeddings.store.fused_state()
        for name, value in state["fused_state"].items():
            live[name].copy_(value)
        self.learning_rate_factor = state["learning_rate_factor"]
        self.model.embeddings.store.scale_learning_rate(self.learning_rate_factor)

    def _optimizers(self) -> list[Any]:
        optimizers = self.optimizers()
        return optimizers if isinstance(optimizers, list) else [optimizers]

    def _check_finite(self, loss: Tensor, batch: Batch) -> None:
        if torch.isfinite(loss):
            return
        culprit = first_non_finite(self.model, batch)
        raise RecsysError(
            "the training loss is not finite any more",
            where=f"epoch {batch.cursor.epoch}, batch {batch.cursor.batch}"
            + (f"; first non-finite values in {culprit}" if culprit else ""),
            got=loss.item(),
            fix="lower train.dense_optimizer.learning_rate or train.embedding_optimizer."
            "learning_rate; the last checkpoint is still good",
        )


def first_non_finite(model: CTRModel, batch: Batch) -> str | None:
    """Where a NaN or an infinity appears first: a table, a layer's weights, or its output."""
    named = [(f"table {name}", w) for name, w in model.embeddings.store.weights().items()]
    named += [(f"the weights {name}", p) for name, p in model.network.named_parameters()]
    outputs: list[tuple[str, Tensor]] = []
    hooks = [
        layer.register_forward_hook(
            lambda _, __, output, name=name: outputs.append((f"the output of {name}", output))
        )
        for name, layer in model.network.named_modules()
        if name and not list(layer.children())
    ]
    with torch.no_grad():
        model(batch)
    for hook in hooks:
        hook.remove()
    return next((name for name, w in [*named, *outputs] if not torch.isfinite(w).all()), None)
