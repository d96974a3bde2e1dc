"""What run folders and reports say about embeddings: their bytes, and the allocation they use."""

from typing import Literal

from recsys.config.base import BaseConfig, Record

FLOAT_BYTES = 4
Purpose = Literal["serve", "train"]


class _Bytes(Record):
    train_bytes: int
    serve_bytes: int

    def of(self, purpose: Purpose) -> int:
        return self.train_bytes if purpose == "train" else self.serve_bytes


class FeatureBytes(_Bytes):
    """One feature. `serve_bytes` is table + parameter + projection + buffer bytes.

    `train_bytes` counts optimizer state too. `full_table_bytes`: a full table of the default width
    for its ids; 0 if an earlier feature has the same ids (`shared_tables`), as full tables would be
    shared too. Records of older runs lack the parts, which are 0 then.
    """

    method: str
    cardinality: int
    dim: int
    table_bytes: int = 0
    parameter_bytes: int = 0
    projection_bytes: int = 0
    buffer_bytes: int = 0
    full_table_bytes: int = 0

    @property
    def share_of_full_table(self) -> float | None:
        return self.serve_bytes / self.full_table_bytes if self.full_table_bytes else None


class SharedTableBytes(_Bytes):
    """A table that several features read. It is in the bytes of the first, `charged_to`."""

    charged_to: str
    readers: tuple[str, ...]


class EmbeddingBytes(_Bytes):
    """The `embeddings` part of training.json and of a report.

    `share_of_full_tables`: serve_bytes ÷ full_table_bytes; null without ids.
    """

    full_table_bytes: int = 0
    share_of_full_tables: float | None = None
    features: dict[str, FeatureBytes]
    shared_tables: dict[str, SharedTableBytes] = {}


class Score(BaseConfig):
    """AUC on `rows` of a searched model, and the bytes of its searched tables."""

    rows: str
    auc: float
    bytes: int


class AllocationFacts(BaseConfig):
    """Which allocation a run trains, and how its search scored."""

    file: str
    sha256: str
    method: str
    bytes: int
    full_bytes: int
    supernet: Score
    chosen: Score
