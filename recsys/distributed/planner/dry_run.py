"""Estimates a run on the meta device, without data or devices: tables, bytes, rows per lookup."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from recsys.config.run import RunConfig
from recsys.data.statistics import mean_lengths
from recsys.distributed.planner.choices import table_placements
from recsys.distributed.planner.cluster import Cluster
from recsys.distributed.planner.planner import DoesNotFitError, PlanRequest, find_plan
from recsys.distributed.run_memory import count_run_bytes, meta_embeddings
from recsys.embeddings.collection import FeatureEmbeddings
from recsys.embeddings.config import EmbeddingsConfig
from recsys.embeddings.feature_methods import unique_tables
from recsys.errors import RecsysError
from recsys.models.network import build_network
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
            [look for group in features.store.groups.values() for look in group.lookups],
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
    parts = (lookup.mean_rows(lengths) for lookup in features.lookups.values())
    return {key: rows for part in parts for key, rows in part.items()}
