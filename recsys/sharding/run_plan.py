"""From a run's config and its data set's schema to a plan; no rows, no GPU, no process group."""

from dataclasses import dataclass, replace

import torch

from recsys.config import RunConfig
from recsys.embeddings.collection import FeatureEmbeddings, build_embeddings
from recsys.embeddings.config import EmbeddingsConfig
from recsys.embeddings.memory import count_bytes
from recsys.embeddings.optimizers import SgdConfig
from recsys.errors import RecsysError
from recsys.models.network import build_network
from recsys.schema import Schema
from recsys.sharding.byte_sizes import format_bytes
from recsys.sharding.choices import table_placements
from recsys.sharding.cluster import Cluster
from recsys.sharding.planner import DoesNotFitError, FoundPlan, PlanRequest, find_plan


@dataclass(frozen=True)
class PaperRun:
    """A run on a cluster, on paper: tables without memory, rows without data."""

    config: RunConfig
    schema: Schema
    cluster: Cluster

    def embeddings(self) -> FeatureEmbeddings:
        """The features, methods and tables; the store is a stand-in on the meta device."""
        as_plain = self.config.embeddings.model_copy(update={"store": "plain"})
        sgd = SgdConfig(learning_rate=1.0)
        return build_embeddings(as_plain, self.schema, sgd, torch.device("meta"))

    def request(self) -> PlanRequest:
        features = self.embeddings()
        return PlanRequest(
            features.store.tables,
            features.store.lookups,
            self.config.train.embedding_optimizer,
            table_placements(self.config.embeddings, features.methods),
            self.cluster,
            -(-self.config.data.global_batch_size // self.cluster.world_size),
        )

    def fits(self) -> bool:
        try:
            find_plan(self.request(), is_quick=True)
        except DoesNotFitError:
            return False
        return True

    def feature_bytes(self) -> dict[str, int]:
        """Bytes of one copy of each feature's tables and optimiser state, largest first."""
        optimizer = self.config.train.embedding_optimizer.name
        counted = count_bytes(self.embeddings(), optimizer)["features"]
        sizes = {name: facts["train_bytes"] for name, facts in counted.items()}  # type: ignore[attr-defined]  # count_bytes gives plain JSON
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


def plan_run(config: RunConfig, schema: Schema, cluster: Cluster) -> FoundPlan:
    """The plan of a run; each rank that asks for it gets the same.

    Raises RecsysError: nothing to shard, a placement that is not on offer, or tables that do not
    fit, with the features that cause it and the config lines that would mend it.
    """
    from recsys.sharding.remedies import explain

    run = PaperRun(config, schema, cluster)
    _check_store(run)
    try:
        return find_plan(run.request())
    except DoesNotFitError:
        raise explain(run) from None


def _check_store(run: PaperRun) -> None:
    if run.config.embeddings.store == "plain":
        whole = format_bytes(sum(run.feature_bytes().values()))
        raise RecsysError(
            "the plain store is not sharded: every device holds all tables",
            where="embeddings.store",
            got=f"{whole} on each device, with the optimiser's state",
            fix="set embeddings.store: fused (train.embedding_optimizer: rowwise_adagrad or sgd)",
        )
