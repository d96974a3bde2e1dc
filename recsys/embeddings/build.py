"""build_embeddings: from the config and a dataset's schema to methods, table groups and a store."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from recsys.embeddings.collection import POOLED, FeatureEmbeddings
from recsys.embeddings.feature_methods import build_methods, unique_tables
from recsys.embeddings.lookups import Methods, unpooled_lookups
from recsys.embeddings.methods.base import EmbeddingKey
from recsys.embeddings.optimizers.base import TableOptimizerConfig
from recsys.embeddings.tables.build import GroupSpec, build_store
from recsys.history_pair import HistoryPair, history_features
from recsys.schema import Schema

if TYPE_CHECKING:  # keeps the import chain short
    from recsys.embeddings.config import EmbeddingsConfig

UNPOOLED = "unpooled"  # the group of features' own embeddings whose rows come one by one


def build_embeddings(
    config: "EmbeddingsConfig",
    schema: Schema,
    optimizer: TableOptimizerConfig,
    device: torch.device,
    *,
    pairs: Sequence[HistoryPair] = (),
    is_sharded: bool = False,
) -> FeatureEmbeddings:
    """The embeddings of a dataset's sparse features, not yet initialized.

    Args:
        config: which method embeds which feature, and the kind of store.
        schema: the dataset's features.
        optimizer: of all tables, but for the learning rate of roles that have their own.
        device: where the tables lie.
        pairs: the targets and histories of the model, whose vectors it reads one by one.
        is_sharded: leaves fused tables on the meta device, for a plan to place them.
    """
    config.check_names(schema)
    methods = build_methods(config, schema, pairs)
    sequences = [f.name for f in schema.of_kind("sequence")]
    histories = history_features(pairs)
    apart = sequences if optimizer.has_row_l2(config.store) else histories
    groups = _groups(methods, sequences, apart)
    tables = unique_tables(methods)
    specs = {}
    for name, keys in groups.items():
        chosen = {key: methods[key] for key in keys}
        lookups = (
            [look for method in chosen.values() for look in method.lookups]
            if name == POOLED
            else unpooled_lookups(tables, chosen)
        )
        rate = config.roles[name].learning_rate if name in config.roles else None
        own = optimizer if rate is None else optimizer.model_copy(update={"learning_rate": rate})
        specs[name] = GroupSpec(lookups, own)
    store = build_store("sharded" if is_sharded else config.store, tables, specs, device)
    mean_pooled = [
        name for name in sequences if name not in histories and config.pooling_of(name) == "mean"
    ]
    embeddings = FeatureEmbeddings(schema.sparse, methods, groups, mean_pooled, store, pairs)
    if device.type == "cuda":
        embeddings.method_modules.to(device)
    return embeddings


def _groups(
    methods: Methods, sequences: Sequence[str], apart: Sequence[str]
) -> dict[str, list[EmbeddingKey]]:
    """The embeddings of each table group that has any; a role is a group of its own.

    `apart`: histories, or all sequences if each looked-up row is penalized.
    """
    own = {key: method for key, method in methods.items() if not key.role}
    unpooled = _unpooled(own, sequences, apart)
    groups: dict[str, list[EmbeddingKey]] = {POOLED: [], UNPOOLED: []}
    for key in methods:
        own_group = UNPOOLED if key in unpooled else POOLED
        groups.setdefault(key.role or own_group, []).append(key)
    return {name: keys for name, keys in groups.items() if keys}


def _unpooled(
    methods: Methods, sequences: Sequence[str], apart: Sequence[str]
) -> set[EmbeddingKey]:
    """`apart`, other sequences that combine before they pool, and all that share a table."""
    chosen = {
        key
        for key, method in methods.items()
        if key.feature in apart or (key.feature in sequences and not method.commutes_with_sum)
    }
    while True:
        tables = {look.table for key in chosen for look in methods[key].lookups}
        readers = {k for k, m in methods.items() if any(k2.table in tables for k2 in m.lookups)}
        if readers <= chosen:
            return chosen
        chosen |= readers
