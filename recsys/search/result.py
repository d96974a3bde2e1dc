"""What a search has found, before it becomes an allocation file."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from recsys.config.run import RunConfig
from recsys.distributed.context import Ranks
from recsys.embeddings.allocation import FeatureAllocation
from recsys.embeddings.methods.base import (
    BaseMethodConfig,
    EmbeddingKey,
    EmbeddingMethod,
    Finalized,
)
from recsys.embeddings.methods.pruned import Pruned
from recsys.embeddings.records import FLOAT_BYTES, Score
from recsys.errors import RecsysError
from recsys.io.atomic import write_json
from recsys.io.paths import read_bytes
from recsys.io.plain_data import parse_json
from recsys.schema import Schema
from recsys.search.candidates import Candidate


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
    """The allocation of each feature, its finalized method, and the scores behind it."""

    features: dict[str, FeatureAllocation]
    methods: dict[str, Finalized]
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


def stored_bytes(method: EmbeddingMethod) -> int:
    """Rows, indices and projections, as they are served."""
    rows = sum(table.num_rows * table.dim for table in method.tables()) * FLOAT_BYTES
    beside = (*method.parameters(), *method.buffers())
    return rows + sum(tensor.numel() * tensor.element_size() for tensor in beside)


def allocate(
    table: SearchedTable, found: Finalized, dims: tuple[int, ...], why: dict[str, object]
) -> FeatureAllocation:
    """The entry of one feature; `dims`: the number of columns of each band that has rows."""
    built = found.build(table.name, table.cardinality, table.name)
    return FeatureAllocation(
        cardinality=table.cardinality,
        kept_rows=built.num_kept if isinstance(built, Pruned) else table.cardinality,
        dims=dims,
        bytes=stored_bytes(built),
        full_bytes=table.full_bytes,
        why=why,
        embedding=found.config.model_dump(mode="json"),
        read_by=table.readers,
    )


def write_state(path: Path, state: dict[str, Any], ranks: Ranks) -> None:
    """Rank 0 writes; all ranks have the same state."""
    if ranks.is_first:
        write_json(path, state)


def read_state(path: Path, ranks: Ranks) -> dict[str, Any] | None:
    """Rank 0's file, on every rank; None if there is none."""
    state = None
    if ranks.is_first and path.is_file():
        try:
            state = parse_json(read_bytes(path), str(path))
        except OSError as error:
            raise RecsysError(
                "the state of the search is damaged",
                where=path,
                got=str(error),
                fix="delete this file: the candidates are scored again",
            ) from None
    found: dict[str, Any] | None = ranks.broadcast(state)
    return found
