"""CTRModule: the training step, which combines model, loss, metrics and optimizers."""

from typing import Any

import lightning
import numpy as np
import torch
from torch import Tensor

from recsys.config.train import TrainConfig
from recsys.data.batch import Batch, Cursor
from recsys.distributed.context import Ranks
from recsys.errors import RecsysError
from recsys.metrics import validation_metrics
from recsys.models.ctr_model import CTRModel, Forward
from recsys.training.checkpoint.io import MODEL_PREFIX
from recsys.training.checkpoint.random_state import get_random_state, set_random_state
from recsys.training.nan_checks import check_gradients, check_loss, check_state


class CTRModule(lightning.LightningModule):
    """Trains a CTRModel on the mean log loss plus the tables' L2 penalty.

    Optimization is manual, because fbgemm updates fused tables inside backward: a closure that runs
    backward twice, as Lightning's may, would update them twice.
    """

    def __init__(
        self, model: CTRModel, config: TrainConfig, ranks: Ranks, forward: Forward | None = None
    ) -> None:
        """`forward`: the model wrapped for data-parallel training, if there are several ranks."""
        super().__init__()
        self.automatic_optimization = False
        self.strict_loading = False  # each rank saves its own part of the tables
        self.model = model
        self.config, self.ranks = config, ranks
        self.train_forward: tuple[Forward] = (
            forward or model,
        )  # in a tuple, or Module would register it
        self.learning_rate_factor = 1.0
        self.trained = Cursor(0, -1)
        self._rng_state: Tensor | None = None
        self.metrics = validation_metrics(config.monitor)
        self._scored: list[tuple[np.ndarray, ...]] = []
        # Σ loss × rows, and the number of rows, since the last validation, on this rank
        self._loss_sum: Tensor | float = 0.0
        self._loss_rows = 0
        self.mean_train_loss: float | None = None  # of these rows, over all ranks, in nats

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        dense = self.config.dense_optimizer.build(self.model.dense_parameters())
        return [dense, *self.model.embeddings.store.optimizers()]

    def on_train_start(self) -> None:
        if self._rng_state is not None:
            set_random_state(self._rng_state, self.ranks.device)
            self._rng_state = None

    def training_step(self, batch: Batch, batch_index: int) -> None:
        """One optimizer step on one batch; the loss is the mean over the rows of all ranks."""
        is_logged = (self.trainer.global_step + 1) % self.config.log_every_steps == 0
        logits, penalty = self.train_forward[0](batch)
        rows = max(len(batch), 1)
        loss = self.model.task.loss(logits, batch.labels) / rows
        if is_logged or loss.device.type == "cpu":
            check_loss(loss.detach(), self.model, batch)
        self.model.zero_grad()
        # DDP averages gradients over ranks: each rank's mean is weighted by its share of the rows
        share = rows * self.ranks.world_size / batch.global_rows
        self.manual_backward((loss + penalty) * share if share != 1.0 else loss + penalty)
        if is_logged or loss.device.type == "cpu":
            check_gradients(self.model, batch.cursor)
        self._step()
        self.trained = batch.cursor
        self._loss_sum = self._loss_sum + loss.detach().double() * len(batch)
        self._loss_rows += len(batch)
        if self.ranks.world_size == 1:
            self.log("train/loss", loss.detach(), batch_size=rows)
        elif is_logged or self.trainer.is_last_batch:
            total = self.ranks.sum(loss.detach().cpu().double() * len(batch)) / batch.global_rows
            self.log("train/loss", total, batch_size=rows)

    def _step(self) -> None:
        dense, *_ = self._optimizers()
        if self.config.gradient_clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.gradient_clip_norm)
        dense.step()  # Lightning counts the steps of this optimizer as training steps
        self.model.embeddings.store.step()

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        logits, _ = self.model(batch)
        scored = [logits.float(), batch.labels]
        if batch.group_ids is not None and any(metric.needs_groups for metric in self.metrics):
            scored.append(batch.group_ids)
        self._scored.append(tuple(tensor.cpu().numpy() for tensor in scored))

    def on_validation_start(self) -> None:
        since = torch.tensor([float(self._loss_sum), self._loss_rows], dtype=torch.float64)
        total, rows = self.ranks.sum(since).tolist()
        self.mean_train_loss = total / rows if rows else None
        self._loss_sum, self._loss_rows = 0.0, 0

    def on_validation_epoch_end(self) -> None:
        scored = [part for parts in self.ranks.gather(self._scored) for part in parts]
        logits, labels, *groups = (np.concatenate(parts) for parts in zip(*scored, strict=True))
        self._scored.clear()
        # fused Adam counts lookups of a validation as steps
        self.model.embeddings.store.restore_step_count(self.trainer.global_step)
        for metric in self.metrics:
            value = metric.value(logits, labels, groups[0] if groups else None)
            if value is not None:
                self.log(f"valid/{metric.name}", torch.tensor(value, dtype=torch.float64))
            elif metric.name == self.config.monitor:
                raise RecsysError(
                    f"{metric.title} is not defined for the rows of the valid split, so it cannot "
                    "choose the best weights",
                    where="train.monitor",
                    expected=metric.requires,
                    got=f"only label {labels[0]:g}" if (labels == labels[0]).all() else None,
                    fix="set train.monitor to another metric, or prepare the data with another "
                    "split",
                )

    def scale_learning_rates(self, factor: float) -> None:
        """Sets every learning rate, the tables' too, to `factor` × the configured one."""
        self.learning_rate_factor = factor
        dense, *_ = self._optimizers()
        for group in dense.param_groups:
            group["lr"] = self.config.dense_optimizer.learning_rate * factor
        self.model.embeddings.store.scale_learning_rate(factor)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        check_state(self.model, self.trained)
        dense = self.model.dense_state_dict()
        checkpoint["state_dict"] = {f"{MODEL_PREFIX}{name}": value for name, value in dense.items()}
        checkpoint["tables"] = self.model.embeddings.store.state()
        checkpoint["recsys"] = {
            "trained": list(self.trained),
            "learning_rate_factor": self.learning_rate_factor,
            "rng_states": self.ranks.gather(get_random_state(self.ranks.device)),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restores what Lightning does not; `train` reads the tables in place."""
        weights = checkpoint["state_dict"].items()
        self.model.check_dense_state({k.removeprefix(MODEL_PREFIX): v for k, v in weights})
        state = checkpoint["recsys"]
        self.trained = Cursor(*state["trained"])
        self._rng_state = _rng_state(state["rng_states"], self.ranks, checkpoint["global_step"])
        store = self.model.embeddings.store
        store.restore_step_count(checkpoint["global_step"])
        self.learning_rate_factor = state["learning_rate_factor"]
        store.scale_learning_rate(self.learning_rate_factor)

    def _optimizers(self) -> list[Any]:
        optimizers = self.optimizers()
        return optimizers if isinstance(optimizers, list) else [optimizers]


def _rng_state(saved: list[Tensor], ranks: Ranks, step: int) -> Tensor:
    """This rank's state; a new one if the number of ranks has changed."""
    if len(saved) == ranks.world_size:
        return saved[ranks.rank]
    words = np.random.SeedSequence((int(saved[0].sum()), step, ranks.rank)).generate_state(1)
    return torch.Generator().manual_seed(int(words[0])).get_state()
