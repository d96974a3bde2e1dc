"""What a search has found, before it becomes an allocation file."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from torch import Tensor

from recsys.config.run import RunConfig
from recsys.embeddings.allocation import FeatureAllocation
from recsys.embeddings.id_mapping.id_bitmap import pack_ids
from recsys.embeddings.methods.base import BaseMethodConfig, EmbeddingKey, EmbeddingMethod
from recsys.embeddings.methods.pruned import PrunedConfig
from recsys.embeddings.records import FLOAT_BYTES, Score
from recsys.schema import Schema
from recsys.search.candidates import Candidate

IN_FILE = "in the safetensors file"


class SearchedTable(NamedTuple):
    """A feature whose method is searched, and the features that read its table."""

    name: str
    readers: tuple[str, ...]
    cardinality: int
    method: BaseMethodConfig

    @property
    def keys(self) -> list[EmbeddingKey]:
        """The embeddings that read the table."""
        return [EmbeddingKey(feature) for feature in (self.name, *self.readers)]

    @property
    def full_bytes(self) -> int:
        return self.cardinality * self.method.embedding_dim * FLOAT_BYTES


class Found(NamedTuple):
    """The allocation of each feature, the kept ids (V,) of some, and the scores behind it."""

    features: dict[str, FeatureAllocation]
    kept: dict[str, Tensor]
    max_bytes: int
    supernet: Score
    chosen: Score
    candidates: list[Candidate]


# Raises StoppedBySignal where the user has asked to stop; the number says how far the work is.
StopIfAsked = Callable[[int], None]


def searched_tables(config: RunConfig, schema: Schema, name: str) -> list[SearchedTable]:
    """The features with the method `name`, in schema order; those that share a table count once."""
    methods, shared = config.embeddings.resolved_methods(schema), config.embeddings.shared_tables
    return [
        SearchedTable(
            feature.name,
            tuple(reader for reader, owner in shared.items() if owner == feature.name),
            feature.num_ids,
            methods[feature.name],
        )
        for feature in schema.sparse
        if feature.name not in shared and getattr(methods[feature.name], "method", "") == name
    ]


def full_bytes(tables: Sequence[SearchedTable]) -> int:
    return sum(table.full_bytes for table in tables)


def kept_choice(is_kept: Tensor) -> int | str | None:
    """(V,) bool as `PrunedConfig.kept` wants it: the shortest way to say it."""
    count = int(is_kept.sum())
    if count == len(is_kept):
        return None
    return count if bool(is_kept[:count].all()) else pack_ids(is_kept)


def stored_bytes(method: EmbeddingMethod) -> int:
    """Rows, indices and projections, as they are served."""
    rows = sum(table.num_rows * table.dim for table in method.tables()) * FLOAT_BYTES
    beside = (*method.parameters(), *method.buffers())
    return rows + sum(tensor.numel() * tensor.element_size() for tensor in beside)


def allocate(
    table: SearchedTable,
    embedding: PrunedConfig,
    rows_and_dims: tuple[int, tuple[int, ...]],
    why: dict[str, object],
) -> FeatureAllocation:
    """The entry of one feature; chosen ids are left to the safetensors file."""
    built = embedding.build(table.name, table.cardinality, table.name)
    if isinstance(embedding.kept, str):
        embedding = embedding.model_copy(update={"kept": IN_FILE})
    kept_rows, dims = rows_and_dims
    return FeatureAllocation(
        cardinality=table.cardinality,
        kept_rows=kept_rows,
        dims=dims,
        bytes=stored_bytes(built),
        full_bytes=table.full_bytes,
        why=why,
        embedding=embedding,
        read_by=table.readers,
    )
