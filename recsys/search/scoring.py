"""The rows that the architecture is chosen on, batches of `valid`, and the AUC on them."""

from collections.abc import Iterator

import numpy as np
import torch

from recsys.config.run import RunConfig
from recsys.data.batch import Batch, Cursor
from recsys.distributed.context import Ranks
from recsys.errors import RecsysError
from recsys.metrics import compute_auc
from recsys.models.ctr_model import CTRModel
from recsys.schema import Schema
from recsys.training.loaders import build_loader
from recsys.training.run_folder.trained import TrainedRun

SPLIT = "valid"
BATCH_ROWS = 8192


class ArchitectureRows:
    """Batches in file order, ready for the model. Each rank has its part of each batch."""

    def __init__(self, config: RunConfig, schema: Schema, model: CTRModel, ranks: Ranks) -> None:
        self.loader = build_loader(config, schema, SPLIT, model, ranks, shuffle=False)
        self.device = ranks.device

    def __len__(self) -> int:
        return len(self.loader)

    def batch(self, number: int) -> Batch:
        batch = self.loader.reader.batch(Cursor(0, number))
        if self.loader.transform is not None:
            batch = self.loader.transform(batch)
        return batch.to(self.device)


class FactorRows:
    """The batches with an even number, cyclically, for the training steps of the factors."""

    def __init__(self, rows: ArchitectureRows) -> None:
        if len(rows) < 2:
            raise RecsysError(
                f"the split {SPLIT!r} is too small: half of its batches train factors",
                expected="at least 2 batches",
                got=len(rows),
                fix="lower data.global_batch_size, or prepare the data with more rows in valid",
            )
        self.rows, self.count = rows, (len(rows) + 1) // 2

    def at_step(self, step: int) -> Batch:
        return self.rows.batch(2 * (step % self.count))


def chooses(batch: Batch) -> bool:
    """True for the batches that factors are not trained on."""
    return batch.cursor.batch % 2 == 1


class Scorer:
    """The AUC on architecture rows of a model whose methods the caller changes."""

    def __init__(self, trained: TrainedRun, *, only_choosing: bool) -> None:
        """`only_choosing`: leaves out the batches that factors were trained on."""
        self.model, self.ranks = trained.model, trained.ranks
        self.only_choosing = only_choosing
        config = trained.config
        if not only_choosing:  # any batch size gives the same result, and large ones are faster
            rows = max(BATCH_ROWS, config.data.global_batch_size)
            data = config.data.model_copy(update={"global_batch_size": rows})
            config = config.model_copy(update={"data": data})
        self.rows = ArchitectureRows(config, trained.schema, trained.model, trained.ranks)
        is_small = trained.schema.split("valid").rows <= config.data.shuffle_rows
        self._kept = list(self._read()) if is_small else None

    def _read(self) -> Iterator[Batch]:
        for number in range(len(self.rows)):
            if not self.only_choosing or number % 2 == 1:
                yield self.rows.batch(number)

    @torch.no_grad()
    def auc(self) -> float:
        """Exact, over the rows of all ranks; the same on every rank."""
        self.model.eval()
        scored = []
        for batch in self._kept if self._kept is not None else self._read():
            logits, _ = self.model(batch)
            scored.append((logits.float().cpu().numpy(), batch.labels.cpu().numpy()))
        parts = [part for of_rank in self.ranks.gather(scored) for part in of_rank]
        logits, labels = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        auc = compute_auc(logits, labels)
        if auc is None:
            raise RecsysError("the architecture rows have one class only, so AUC is not defined")
        return auc
