"""Warm start: initializes vectors from another run, feature by feature and value by value.

Ids belong to one dataset; values are what two datasets share. A value in both vocabularies takes
its old vector to its new id, a new value keeps its fresh vector, and a value that is gone is
dropped. Hashed ids mean the same in both datasets.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from recsys.config.base import BaseConfig
from recsys.embeddings.methods.base import EmbeddingKey, EmbeddingMethod
from recsys.embeddings.tables.base import TableShard
from recsys.errors import RecsysError
from recsys.models.ctr_model import CTRModel
from recsys.schema import Feature, Schema
from recsys.training.run_folder.warm_start_source import WarmStartSource, open_source, read_values

WARM_START_FILE = "warm_start.json"
IDS_AT_ONCE = 1 << 20


class WarmFeature(BaseConfig):
    """The result for one feature's ids; `skipped` says why no vector was copied."""

    feature: str
    kept: int = 0
    new: int = 0
    dropped: int = 0
    skipped: str | None = None


class WarmStart(BaseConfig):
    """What was copied from `source`. `network_fresh` names dense tensors that were not."""

    source: str
    features: tuple[WarmFeature, ...]
    network_copied: tuple[str, ...] = ()
    network_fresh: tuple[str, ...] = ()
    network_skipped: str | None = None


class SameIds(NamedTuple):
    """Id `old[i]` of the old dataset and id `new[i]` of the new one are one value; (K,) int64."""

    old: np.ndarray
    new: np.ndarray
    num_old: int
    num_new: int

    @property
    def is_identity(self) -> bool:
        """True if every id means the same value in both."""
        return self.num_old == self.num_new == len(self.old) and np.array_equal(self.old, self.new)


def warm_start(
    model: CTRModel,
    schema: Schema,
    dataset_dir: Path,
    old_run: Path,
    *,
    with_network: bool = True,
) -> WarmStart:
    """Copies the best weights of `old_run`; each rank copies into the shards that it holds.

    Optimizer state stays fresh.

    Raises:
        RecsysError: if no feature can be copied.
    """
    old = open_source(old_run)
    plan = {key: _compare(model, key, schema, dataset_dir, old) for key in model.embeddings.methods}
    if all(isinstance(found, str) for found in plan.values()):
        raise RecsysError(
            f"no feature can be initialized from {old_run}",
            where="train.warm_start",
            got="; ".join(f"{key.name}: {why}" for key, why in plan.items()),
            fix="choose a run whose features have these names, methods and dims",
        )
    matched = {key: ids for key, ids in plan.items() if isinstance(ids, SameIds)}
    _copy_tables(model, matched, old)
    return WarmStart(
        source=str(old_run),
        features=tuple(_report(key.name, found) for key, found in plan.items()),
        **_copy_network(model, schema, old, with_network),
    )


def _compare(
    model: CTRModel, key: EmbeddingKey, schema: Schema, dataset_dir: Path, old: WarmStartSource
) -> SameIds | str:
    """The ids that a feature shares with the old run, or why its vectors cannot be copied."""
    feature = schema.feature(key.feature)
    method, known = model.embeddings.methods[key], old.features.get(feature.name)
    old_method = old.methods.get(key)
    if known is None or old_method is None:
        return "not in the old run"
    if old_method.name != method.name:
        return f"other method ({old_method.name})"
    if old_method.output_dim != method.output_dim:
        return f"other dim ({old_method.output_dim})"
    ids = match_ids(feature, dataset_dir, known, old.dataset_dir)
    if isinstance(ids, str) or (method.is_plain_table and old_method.is_plain_table):
        return ids
    if not _have_same_tables(old_method, method):
        return "other tables"
    if not ids.is_identity:
        return f"{method.name} mixes ids in a row, and the ids have changed"
    return ids if _read_same_rows(old_method, method) else "other rows for the same ids"


def match_ids(new: Feature, new_dataset: Path, old: Feature, old_dataset: Path) -> SameIds | str:
    """Pairs the ids of one feature in two datasets; id 0, for all other values, is a pair."""
    if new.encoding is None or old.encoding is None or new.encoding.kind != old.encoding.kind:
        return "other kind of ids"
    if new.encoding.kind == "hash":
        if (new.encoding, new.num_ids) != (old.encoding, old.num_ids):
            return f"other hash rule ({old.num_ids} ids)"
        ids = np.arange(new.num_ids)
        return SameIds(ids, ids, old.num_ids, new.num_ids)
    both = read_values(old_dataset, old).join(
        read_values(new_dataset, new), on="value", how="inner", suffix="_new"
    )
    pairs = both.sort("id").select("id", "id_new").to_numpy().astype(np.int64)  # (K, 2)
    pairs = np.concatenate([np.zeros((1, 2), np.int64), pairs])
    return SameIds(pairs[:, 0], pairs[:, 1], old.num_ids, new.num_ids)


def _have_same_tables(old: EmbeddingMethod, new: EmbeddingMethod) -> bool:
    shapes = ([(t.num_rows, t.dim) for t in method.tables()] for method in (old, new))
    return len(old.lookups) == len(new.lookups) and len({tuple(s) for s in shapes}) == 1


def _read_same_rows(old: EmbeddingMethod, new: EmbeddingMethod) -> bool:
    """Whether every id has the same rows in both runs: hashes may have different salts."""
    return all(
        torch.equal(before, after)
        for ids in torch.split(torch.arange(new.cardinality), IDS_AT_ONCE)
        for before, after in zip(old.rows(ids), new.rows(ids), strict=True)
    )


@torch.no_grad()
def _copy_tables(
    model: CTRModel, matched: Mapping[EmbeddingKey, SameIds], old: WarmStartSource
) -> None:
    """Copies table by table, so that one old table at a time is in memory."""
    sources: dict[str, tuple[str, SameIds]] = {}
    for key, ids in matched.items():
        new, before = model.embeddings.methods[key], old.methods[key]
        for table, old_table in zip(new.tables(), before.tables(), strict=True):
            sources.setdefault(table.name, (old_table.name, ids))
        new.load_state_dict(old.method_state(key))
    for shard in model.embeddings.store.shards():
        if shard.table.name in sources:
            source, ids = sources[shard.table.name]
            copy_rows(old.table(source), shard, ids)


def copy_rows(old: Tensor, shard: TableShard, ids: SameIds) -> None:
    """Fills the rows and columns of a table shard that have an old vector."""
    rows, columns = shard.weight.shape
    old = old[:, shard.first_column : shard.first_column + columns]
    if ids.is_identity:  # also if a row is not an id: tables that are read by hashes of ids
        shard.weight.copy_(old[shard.first_row : shard.first_row + rows])
        return
    is_here = (ids.new >= shard.first_row) & (ids.new < shard.first_row + rows)
    target = torch.from_numpy(ids.new[is_here] - shard.first_row).to(shard.weight.device)
    vectors = old[torch.from_numpy(ids.old[is_here])].to(shard.weight)
    shard.weight.index_copy_(0, target, vectors)


def _copy_network(
    model: CTRModel, schema: Schema, old: WarmStartSource, with_network: bool
) -> dict[str, tuple[str, ...] | str]:
    """Copies dense tensors of equal name and shape, if the network's inputs mean the same."""
    network = model.network.state_dict()
    inputs = [[(f.name, f.kind) for f in s.features] for s in (schema, old.schema)]
    if not with_network or inputs[0] != inputs[1]:
        why = "other features, or another order" if with_network else "not wanted"
        return {"network_fresh": tuple(network), "network_skipped": why}
    known = old.network_state()
    fits = {
        name: known[name]
        for name, value in network.items()
        if name in known and known[name].shape == value.shape
    }
    model.network.load_state_dict(fits, strict=False)
    return {
        "network_copied": tuple(fits),
        "network_fresh": tuple(name for name in network if name not in fits),
    }


def _report(name: str, found: SameIds | str) -> WarmFeature:
    if isinstance(found, str):
        return WarmFeature(feature=name, skipped=found)
    kept = len(found.old)
    return WarmFeature(
        feature=name, kept=kept, new=found.num_new - kept, dropped=found.num_old - kept
    )


def describe(report: WarmStart) -> str:
    """A short table for a terminal."""
    lines = [f"warm start from {report.source}"]
    width = max(len(f.feature) for f in report.features)
    for feature in report.features:
        counts = f"{feature.kept:>12,} kept {feature.new:>10,} new {feature.dropped:>10,} dropped"
        lines.append(f"  {feature.feature:<{width}} {feature.skipped or counts}")
    copied, fresh = len(report.network_copied), len(report.network_fresh)
    why = f" ({report.network_skipped})" if report.network_skipped else ""
    lines.append(f"  network: {copied} tensors copied, {fresh} fresh{why}")
    return "\n".join(lines)
