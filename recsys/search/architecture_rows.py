"""The rows that the architecture is chosen on: batches of `valid`, by number."""

from recsys.config.run import RunConfig
from recsys.data.batch import Batch, Cursor
from recsys.distributed.context import Ranks
from recsys.errors import RecsysError
from recsys.models.ctr_model import CTRModel
from recsys.schema import Schema
from recsys.training.loaders import build_loader

SPLIT = "valid"


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
