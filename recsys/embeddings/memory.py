"""Memory of every feature's embedding, to train and to serve; shared parts are counted once.

serve: tables as exported, the method's own weights (projections, thresholds …), the matrix that
brings the feature to the model's width, and buffers (remaps, masks, indices), at the size of their
elements. train: rows as the store pads them, and the optimizers' state too. All devices together,
one copy each. Gradients, activations and the rest of the network are not in it.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor

from recsys.config.byte_sizes import format_bytes
from recsys.config.dense_optimizers import DENSE_OPTIMIZERS
from recsys.embeddings.methods.base import EmbeddingKey, EmbeddingMethod
from recsys.embeddings.optimizers.base import TableOptimizerConfig
from recsys.embeddings.records import (
    FLOAT_BYTES,
    EmbeddingBytes,
    FeatureBytes,
    Purpose,
    SharedTableBytes,
)
from recsys.embeddings.table_spec import TableSpec
from recsys.embeddings.tables.base import padded_dim
from recsys.errors import RecsysError

if TYPE_CHECKING:  # keeps the import chain short
    from recsys.embeddings.config import EmbeddingsConfig


class Optimizers(NamedTuple):
    """The optimizer of the tables, and the name of that of everything else."""

    tables: TableOptimizerConfig
    dense: str


def count_bytes(
    methods: Mapping[EmbeddingKey, EmbeddingMethod],
    config: "EmbeddingsConfig",
    optimizers: Optimizers,
    projections: Mapping[str, int],
) -> EmbeddingBytes:
    """What several features share (a table, a weight, a buffer) is charged to the first of them.

    `projections`: feature → floats of the matrix that brings it to the model's width.
    """
    counter = _Counter(config, optimizers)
    features = {
        key.name: counter.count(key, method, projections.get(key.name, 0) * FLOAT_BYTES)
        for key, method in methods.items()
    }
    serve = sum(facts.serve_bytes for facts in features.values())
    full = sum(facts.full_table_bytes for facts in features.values())
    return EmbeddingBytes(
        train_bytes=sum(facts.train_bytes for facts in features.values()),
        serve_bytes=serve,
        full_table_bytes=full,
        share_of_full_tables=serve / full if full else None,
        features=features,
        shared_tables=dict(counter.shared_tables(methods)),
    )


class _Counter:
    """Charges each table, weight and buffer once."""

    def __init__(self, config: "EmbeddingsConfig", optimizers: Optimizers) -> None:
        self.config, self.optimizers = config, optimizers
        self.is_padded = config.store != "plain" or optimizers.tables.pads_plain_rows
        self.charged: set[object] = set()

    def count(
        self, key: EmbeddingKey, method: EmbeddingMethod, projection_bytes: int
    ) -> FeatureBytes:
        tables = [table for table in method.tables() if self._is_new(table.name)]
        weights = [weight for weight in method.parameters() if self._is_new(id(weight))]
        buffers = [buffer for buffer in method.buffers() if self._is_new(id(buffer))]
        table_bytes = sum(map(_serve_bytes, tables))
        others = projection_bytes + _nbytes(weights) + _nbytes(buffers)
        trained = projection_bytes + _nbytes(w for w in weights if w.requires_grad)
        state = trained * DENSE_OPTIMIZERS[self.optimizers.dense].state_floats
        ids_of = key._replace(feature=self.config.shared_tables.get(key.feature, key.feature))
        full_width = self.config.default.embedding_dim if self._is_new(("ids", ids_of)) else 0
        return FeatureBytes(
            method=method.name,
            cardinality=method.cardinality,
            dim=method.output_dim,
            train_bytes=sum(map(self._train_bytes, tables)) + others + state,
            serve_bytes=table_bytes + others,
            table_bytes=table_bytes,
            parameter_bytes=_nbytes(weights),
            projection_bytes=projection_bytes,
            buffer_bytes=_nbytes(buffers),
            full_table_bytes=method.cardinality * full_width * FLOAT_BYTES,
        )

    def shared_tables(
        self, methods: Mapping[EmbeddingKey, EmbeddingMethod]
    ) -> Iterator[tuple[str, SharedTableBytes]]:
        tables = {table.name: table for method in methods.values() for table in method.tables()}
        for name, keys in readers(methods).items():
            if len(keys) > 1:
                yield (
                    name,
                    SharedTableBytes(
                        charged_to=keys[0].name,
                        readers=tuple(key.name for key in keys),
                        train_bytes=self._train_bytes(tables[name]),
                        serve_bytes=_serve_bytes(tables[name]),
                    ),
                )

    def _is_new(self, key: object) -> bool:
        is_new = key not in self.charged
        self.charged.add(key)
        return is_new

    def _train_bytes(self, table: TableSpec) -> int:
        """Rows as they are stored while they train, and their optimizer's state."""
        width = padded_dim(table.dim) if self.is_padded else table.dim
        state = self.optimizers.tables.state_floats(width)
        return table.num_rows * (width + state) * FLOAT_BYTES


def readers(methods: Mapping[EmbeddingKey, EmbeddingMethod]) -> dict[str, list[EmbeddingKey]]:
    """Table name → the embeddings that read it, in order."""
    found: dict[str, list[EmbeddingKey]] = {}
    for key, method in methods.items():
        for name in dict.fromkeys(table.name for table in method.tables()):
            found.setdefault(name, []).append(key)
    return found


def check_budget(counted: EmbeddingBytes, config: "EmbeddingsConfig") -> None:
    """Refuses embeddings that take more than `embeddings.budget`; shows what each feature takes."""
    budget, purpose = config.budget_bytes, config.budget_of
    if budget is None or counted.of(purpose) <= budget:
        return
    excess = counted.of(purpose) - budget
    largest = max(counted.features, key=lambda name: counted.features[name].of(purpose))
    raise RecsysError(
        f"the embeddings take {format_bytes(excess)} more than their budget",
        where="embeddings.budget",
        expected=f"at most {config.budget} to {purpose}",
        got="\n".join([f"{format_bytes(counted.of(purpose))}:", *_table(counted, purpose)]),
        fix=f"a smaller method or embedding_dim, first of all for {largest}, "
        f"or embeddings.budget: {counted.of(purpose)}B",
    )


def _table(counted: EmbeddingBytes, purpose: Purpose) -> Iterator[str]:
    """A line for each feature, largest first, then the tables that several of them read."""
    width = max(map(len, counted.features))
    features = sorted(counted.features.items(), key=lambda item: -item[1].of(purpose))
    for name, facts in features:
        yield (
            f"    {name:<{width}} {format_bytes(facts.of(purpose)):>9}  "
            f"{facts.method}, {facts.cardinality:,} ids, dim {facts.dim}"
        )
    for name, table in counted.shared_tables.items():
        yield (
            f"    in {table.charged_to}: the table {name!r}, "
            f"{format_bytes(table.of(purpose))}, which {', '.join(table.readers)} read"
        )


def _serve_bytes(table: TableSpec) -> int:
    return table.num_rows * table.dim * FLOAT_BYTES


def _nbytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)
