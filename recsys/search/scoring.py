"""Scores a trained supernet with parts left out, without training it."""

from collections.abc import Iterator

import numpy as np
import torch

from recsys.data.batch import Batch
from recsys.errors import RecsysError
from recsys.metrics import compute_auc
from recsys.search.architecture_rows import ArchitectureRows
from recsys.training.run_folder.trained import TrainedRun

BATCH_ROWS = 8192


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
