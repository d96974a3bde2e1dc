"""A run on paper: its tables without memory, its rows without data, its devices without rent."""

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
from recsys.embeddings.memory import EmbeddingBytes, OptimizerNames, check_budget, count_bytes
from recsys.embeddings.tables.build import occurrence_key
from recsys.embeddings.tables.optimizers import SgdConfig
from recsys.errors import RecsysError
from recsys.models.base import pairs_of
from recsys.models.network import build_network, projected_floats
from recsys.schema import Schema


@dataclass(frozen=True)
class PaperRun:
    """A run on a cluster, on paper: tables without memory, rows without data."""

    config: RunConfig
    schema: Schema
    cluster: Cluster

    def embeddings(self) -> FeatureEmbeddings:
        """The features, methods and tables; the store is a stand-in on the meta device."""
        return paper_embeddings(self.config, self.schema)

    def request(self) -> PlanRequest:
        features = self.embeddings()
        return PlanRequest(
            unique_tables(features.methods),  # the order in which the store numbers them
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
        """Bytes of one copy of each feature's tables and optimiser state, largest first."""
        features = count_run_bytes(self.config, self.schema).features
        sizes = {name: facts.train_bytes for name, facts in features.items()}
        return dict(sorted(sizes.items(), key=lambda item: -item[1]))

    def with_embeddings(self, embeddings: EmbeddingsConfig) -> "PaperRun":
        return replace(self, config=self.config.model_copy(update={"embeddings": embeddings}))

    def with_cluster(self, **changes: int) -> "PaperRun":
        return replace(self, cluster=self.cluster.model_copy(update=changes))

    def has_valid_model(self) -> bool:
        """Whether the model takes these embeddings: some want one width for all."""
        embeddings = self.config.embeddings
        try:
            with torch.device("meta"):
                widths = self.embeddings().output_dims
                build_network(self.config.model, embeddings, self.schema, widths)
        except RecsysError:
            return False
        return True


def mean_rows(features: FeatureEmbeddings, lengths: Mapping[str, float]) -> dict[str, float]:
    """Rows that a sample looks up, by lookup key; `lengths` of sequences by feature."""
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
    """What the run's embeddings take, all devices together; nothing is allocated for it."""
    found = paper_embeddings(config, schema)
    optimizers = OptimizerNames(
        config.train.embedding_optimizer.name, config.train.dense_optimizer.name
    )
    projections = projected_floats(config.model, config.embeddings, schema, found.output_dims)
    return count_bytes(found.methods, config.embeddings, optimizers, projections)


def check_run_budget(config: RunConfig, schema: Schema) -> None:
    """Refuses a run whose embeddings take more than `embeddings.budget`."""
    if config.embeddings.budget is not None:
        check_budget(count_run_bytes(config, schema), config.embeddings)


def paper_embeddings(config: RunConfig, schema: Schema) -> FeatureEmbeddings:
    """The features, methods and tables of a run; the store is on the meta device."""
    as_plain = config.embeddings.model_copy(update={"store": "plain"})
    # a stand-in, but for what decides whether sequences are pooled by their lookups
    is_charged = config.train.embedding_optimizer.charges_lookups(config.embeddings.store)
    optimizer, pairs = SgdConfig(learning_rate=1.0, l2=float(is_charged)), pairs_of(config.model)
    return build_embeddings(as_plain, schema, optimizer, torch.device("meta"), pairs=pairs)
