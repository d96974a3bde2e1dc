"""The method of every embedding: each feature's own, and the one that attention has for it."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from recsys.embeddings.config import EmbeddingsConfig
from recsys.embeddings.methods.base import EmbeddingMethod, RowsOf, TableSpec
from recsys.errors import RecsysError
from recsys.history_pair import HistoryPair
from recsys.schema import Schema

# what the name of a feature's embedding for attention ends with
ATTENTION = "@attention"


def build_methods(
    config: EmbeddingsConfig, schema: Schema, pairs: Sequence[HistoryPair] = ()
) -> dict[str, EmbeddingMethod]:
    """The method of every embedding: sparse features in schema order, then those of attention.

    The latter are named `item@attention`, if `embeddings.roles.search` is given.
    """
    _check_pairs(schema, pairs)
    methods = _methods(config, schema, "")
    for_attention = config.for_role("search", attended(config, pairs))
    if for_attention is None:
        return methods
    chosen = schema.model_copy(
        update={"features": tuple(schema.feature(n) for n in attended(config, pairs))}
    )
    return methods | _methods(for_attention, chosen, ATTENTION)


def attended(config: EmbeddingsConfig, pairs: Sequence[HistoryPair]) -> list[str]:
    """The features that have a second embedding for attention, targets before histories."""
    if "search" not in config.roles:
        return []
    targets = [name for pair in pairs for name in pair.target]
    return list(dict.fromkeys([*targets, *history_features(pairs)]))


def history_features(pairs: Sequence[HistoryPair]) -> list[str]:
    """The sequences that a model reads one by one."""
    return list(dict.fromkeys(name for pair in pairs for name in pair.history))


def source_of(embedding: str) -> str:
    """The feature whose ids an embedding takes."""
    return embedding.removesuffix(ATTENTION)


def _methods(config: EmbeddingsConfig, schema: Schema, suffix: str) -> dict[str, EmbeddingMethod]:
    configs = config.resolved_methods(schema)
    return {
        feature.name + suffix: configs[feature.name].build(
            feature.name + suffix,
            feature.num_ids,
            config.shared_tables.get(feature.name, feature.name) + suffix,
        )
        for feature in schema.sparse
    }


def _check_pairs(schema: Schema, pairs: Sequence[HistoryPair]) -> None:
    for pair in pairs:
        for kind, names in (("categorical", pair.target), ("sequence", pair.history)):
            for name in names:
                if schema.feature(name).kind != kind:
                    raise RecsysError(
                        f"{name} cannot stand there",
                        where="model.pairs",
                        expected="categorical features in target, sequences in history",
                        got=f"{name} is {schema.feature(name).kind}",
                    )


def unique_tables(methods: Mapping[str, EmbeddingMethod]) -> list[TableSpec]:
    """The physical tables of all methods, each once; refuses two that would share one and differ.

    A table of attention's own is not shared with the others.
    """
    tables: dict[str, tuple[str, TableSpec]] = {}
    for name, method in methods.items():
        for table in method.tables():
            owner, known = tables.setdefault(table.name, (name, table))
            if _described(known) != _described(table):
                raise RecsysError(
                    f"{owner} and {name} cannot share the table {table.name!r}",
                    expected=f"{_described(known)}, as {owner} needs it",
                    got=f"{_described(table)} for {name}",
                    fix="give features that share a table one size and init, or a table each",
                )
            if owner.endswith(ATTENTION) != name.endswith(ATTENTION):
                raise RecsysError(
                    f"the embeddings of attention cannot share the table {table.name!r}",
                    where="embeddings.roles.search",
                    expected="tables that no other embedding reads",
                    got=f"{owner} and {name}",
                    fix="give the table another name there",
                )
    return [table for _, table in tables.values()]


def _described(table: TableSpec) -> str:
    start = "" if isinstance(table.init, RowsOf) else f", {table.init}"
    return f"{table.num_rows} rows of {table.dim} floats{start}"


def row_counts(
    methods: Mapping[str, EmbeddingMethod], id_counts: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Occurrences of each physical row in the train rows, by table; `id_counts` are (V,)."""
    counts: dict[str, Tensor] = {}
    for name, method in methods.items():
        tables = {table.name: table for table in method.tables()}
        ids = torch.arange(method.cardinality)
        for look, rows in zip(method.lookups, method.rows(ids), strict=True):
            total = counts.setdefault(look.table, torch.zeros(tables[look.table].num_rows))
            total.index_add_(0, rows.long(), id_counts[source_of(name)].float())
    return counts
