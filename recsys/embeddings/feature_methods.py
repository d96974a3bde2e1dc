"""The method of every embedding: each feature's own, and those in a model's further roles."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from recsys.embeddings.methods.base import EmbeddingKey, EmbeddingMethod
from recsys.embeddings.table_spec import RowsOf, TableSpec
from recsys.errors import RecsysError
from recsys.history_pair import HistoryPair, history_features
from recsys.schema import Schema

if TYPE_CHECKING:  # keeps the import chain short
    from recsys.embeddings.config import EmbeddingsConfig


def build_methods(
    config: "EmbeddingsConfig", schema: Schema, pairs: Sequence[HistoryPair] = ()
) -> dict[EmbeddingKey, EmbeddingMethod]:
    """The method of every embedding: sparse features in schema order, then those of each role.

    A role has an embedding for each feature of `pairs`, targets before histories.
    """
    _check_pairs(schema, pairs)
    methods = _methods(config, schema, "")
    targets = [name for pair in pairs for name in pair.target]
    paired = list(dict.fromkeys([*targets, *history_features(pairs)]))
    chosen = schema.model_copy(update={"features": tuple(map(schema.feature, paired))})
    for role in config.roles:
        of_role = config.for_role(role, paired)
        methods |= {} if of_role is None else _methods(of_role, chosen, role)
    return methods


def _methods(
    config: "EmbeddingsConfig", schema: Schema, role: str
) -> dict[EmbeddingKey, EmbeddingMethod]:
    configs = config.resolved_methods(schema)
    methods: dict[EmbeddingKey, EmbeddingMethod] = {}
    for feature in schema.sparse:
        key = EmbeddingKey(feature.name, role)
        table = EmbeddingKey(config.shared_tables.get(feature.name, feature.name), role)
        methods[key] = configs[feature.name].build(key.name, feature.num_ids, table.name)
    return methods


def _check_pairs(schema: Schema, pairs: Sequence[HistoryPair]) -> None:
    for pair in pairs:
        for kind, names in (("categorical", pair.target), ("sequence", pair.history)):
            for name in names:
                if schema.feature(name).kind != kind:
                    raise RecsysError(
                        f"{name} has the wrong kind for its place in a pair",
                        where="model.pairs",
                        expected="categorical features in target, sequences in history",
                        got=f"{name} is {schema.feature(name).kind}",
                    )


def unique_tables(methods: Mapping[EmbeddingKey, EmbeddingMethod]) -> list[TableSpec]:
    """The physical tables of all methods, each once; refuses two that would share one and differ.

    Embeddings of different roles do not share a table.
    """
    tables: dict[str, tuple[EmbeddingKey, TableSpec]] = {}
    for key, method in methods.items():
        for table in method.tables():
            owner, known = tables.setdefault(table.name, (key, table))
            if _described(known) != _described(table):
                raise RecsysError(
                    f"{owner.name} and {key.name} cannot share the table {table.name!r}",
                    expected=f"{_described(known)}, as {owner.name} needs it",
                    got=f"{_described(table)} for {key.name}",
                    fix="give features that share a table one size and init, or a table each",
                )
            if owner.role != key.role:
                raise RecsysError(
                    f"the embeddings of {key.role or owner.role!r} cannot share the table "
                    f"{table.name!r}",
                    where=f"embeddings.roles.{key.role or owner.role}",
                    expected="tables that no other embedding reads",
                    got=f"{owner.name} and {key.name}",
                    fix="give the table another name there",
                )
    return [table for _, table in tables.values()]


def _described(table: TableSpec) -> str:
    start = "" if isinstance(table.init, RowsOf) else f", {table.init}"
    return f"{table.num_rows} rows of {table.dim} floats{start}"


def row_counts(
    methods: Mapping[EmbeddingKey, EmbeddingMethod], id_counts: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """How often train rows look up each physical row, by table; `id_counts` (V,) by feature."""
    counts: dict[str, Tensor] = {}
    for key, method in methods.items():
        tables = {table.name: table for table in method.tables()}
        ids = torch.arange(method.cardinality)
        for look, rows in zip(method.lookups, method.rows(ids), strict=True):
            total = counts.setdefault(look.table, torch.zeros(tables[look.table].num_rows))
            total.index_add_(0, rows.long(), id_counts[key.feature].float())
    return counts
