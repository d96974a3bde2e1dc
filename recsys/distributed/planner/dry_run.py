"""Estimates a run on the meta device, without data or devices: tables, bytes, rows per lookup."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from recsys.config.run import RunConfig
from recsys.data.mean_lengths import mean_lengths
from recsys.distributed.planner.choices import table_placements
from recsys.distributed.planner.cluster import Cluster
from recsys.distributed.planner.planner import DoesNotFitError, PlanRequest, find_plan
from recsys.embeddings.collection import FeatureEmbeddings, build_embeddings
from recsys.embeddings.config import EmbeddingsConfig
from recsys.embeddings.feature_methods import unique_tables
from recsys.embeddings.memory import OptimizerNames, check_budget, count_bytes
from recsys.embeddings.records import EmbeddingBytes
from recsys.embeddings.tables.build import occurrence_key
from recsys.embeddings.tables.optimizers import SgdConfig
from recsys.errors import RecsysError
from recsys.models.base import pairs_of
from recsys.models.network import build_network, projected_floats
from recsys.schema import Schema


@dataclass(frozen=True)
class DryRun:
    """A run on a cluster, with tables on the meta device and no rows."""

    config: RunConfig
    schema: Schema
    cluster: Cluster

    def embeddings(self) -> FeatureEmbeddings:
        """The features, methods and tables; the store is on the meta device."""
        return meta_embeddings(self.config, self.schema)

    def request(self) -> PlanRequest:
        features = self.embeddings()
        return PlanRequest(
            unique_tables(features.methods),  # the order of their numbers in the store
            [look for group in features.store.groups for look in group.lookups],
            self.config.train.embedding_optimizer,
            table_placements(self.config.embeddings, features.methods),
            self.cluster,
            -(-self.config.data.global_batch_size // self.cluster.world_size),
            mean_rows(features, mean_lengths(self.schema, self.config.data.path)),
        )

    def fits(self) -> bool:
        try:
            find_plan(self.request(), is_quick=True)
        except DoesNotFitError:
            return False
        return True

    def feature_bytes(self) -> dict[str, int]:
        """Bytes of one copy of each feature's tables and optimizer state, largest first."""
        features = count_run_bytes(self.config, self.schema).features
        sizes = {name: facts.train_bytes for name, facts in features.items()}
        return dict(sorted(sizes.items(), key=lambda item: -item[1]))

    def with_embeddings(self, embeddings: EmbeddingsConfig) -> "DryRun":
        return replace(self, config=self.config.model_copy(update={"embeddings": embeddings}))

    def with_cluster(self, **changes: int) -> "DryRun":
        return replace(self, cluster=self.cluster.model_copy(update=changes))

    def has_valid_model(self) -> bool:
        """Whether the model accepts these embeddings: some need one width for all."""
        embeddings = self.config.embeddings
        try:
            with torch.device("meta"):
                widths = self.embeddings().output_dims
                build_network(self.config.model, embeddings, self.schema, widths)
        except RecsysError:
            return False
        return True


def mean_rows(features: FeatureEmbeddings, lengths: Mapping[str, float]) -> dict[str, float]:
    """Mean rows per sample, by lookup key; `lengths` of sequences by feature."""
    found = {
        look.key: lengths[name]
        for name in features.pooled
        if name in lengths
        for look in features.methods[name].lookups
    }
    for one_by_one in (features.one_by_one, features.attention):
        for embedding, name in one_by_one.sources.items():
            for look in features.methods[embedding].lookups:
                key = occurrence_key(look.table)
                found[key] = found.get(key, 0.0) + lengths.get(name, 1.0)
    return found


def count_run_bytes(config: RunConfig, schema: Schema) -> EmbeddingBytes:
    """Bytes of the run's embeddings, all devices together; allocates nothing."""
    found = meta_embeddings(config, schema)
    optimizers = OptimizerNames(
        config.train.embedding_optimizer.name, config.train.dense_optimizer.name
    )
    projections = projected_floats(config.model, config.embeddings, schema, found.output_dims)
    return count_bytes(found.methods, config.embeddings, optimizers, projections)


def check_run_budget(config: RunConfig, schema: Schema) -> None:
    """Refuses a run whose embeddings are larger than `embeddings.budget`."""
    if config.embeddings.budget is not None:
        check_budget(count_run_bytes(config, schema), config.embeddings)


def meta_embeddings(config: RunConfig, schema: Schema) -> FeatureEmbeddings:
    """The features, methods and tables of a run; the store is on the meta device."""
    as_plain = config.embeddings.model_copy(update={"store": "plain"})
    # on the meta device; only decides whether sequences are pooled by their lookups
    is_charged = config.train.embedding_optimizer.charges_lookups(config.embeddings.store)
    optimizer, pairs = SgdConfig(learning_rate=1.0, l2=float(is_charged)), pairs_of(config.model)
    return build_embeddings(as_plain, schema, optimizer, torch.device("meta"), pairs=pairs)
