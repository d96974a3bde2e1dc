"""Batch: what the loader hands to a model.

Shape letters, used in the whole package: B samples in the batch, N numerical features, F sparse
features, L ids in the batch (jagged total), T positions of a padded sequence, D embedding width,
H hidden width.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor

from recsys.data.jagged_ids import JaggedIds, KeyedIds
from recsys.data.tensor_record import TensorRecord


class Cursor(NamedTuple):
    """The place of a batch: global batch `batch` of `epoch`. The next one to train is one later."""

    epoch: int
    batch: int


@dataclass(frozen=True)
class RowLookups(TensorRecord):
    """Row numbers that one group of tables looks up for a batch.

    rows: by lookup key, in the form that the group takes. The other fields are of groups that are
    not pooled, where each list of `rows` has one row or none. lengths: (features, B) ids of each
    feature in each row of the batch. counts: their sums. max_length: the largest of them; both
    known without waiting for a GPU.
    """

    rows: KeyedIds
    lengths: Tensor | None = None
    counts: tuple[int, ...] = ()
    max_length: int = 0


@dataclass(frozen=True)
class Batch(TensorRecord):
    """One rank's share of one global batch.

    dense: (B, N) float32. sparse: ids by feature, keys in schema order; without keys once they have
    become `lookups`. labels: (B,) float32. group_ids: (B,) int64 if the dataset has a group column.
    global_rows: rows of the whole batch, all ranks together; its mean loss is the sum over ranks
    ÷ global_rows. lookups: the rows that each group of tables looks up, by the group's name.
    """

    dense: Tensor
    sparse: JaggedIds
    labels: Tensor
    cursor: Cursor
    global_rows: int
    group_ids: Tensor | None = None
    lookups: dict[str, RowLookups] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)
