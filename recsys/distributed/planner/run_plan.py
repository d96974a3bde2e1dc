"""From a run's config and its dataset's schema to a plan; no rows, no GPU, no process group."""

from recsys.config.byte_sizes import format_bytes
from recsys.config.run import RunConfig
from recsys.distributed.planner.cluster import Cluster
from recsys.distributed.planner.dry_run import DryRun
from recsys.distributed.planner.planner import DoesNotFitError, FoundPlan, find_plan
from recsys.distributed.planner.suggestions import explain
from recsys.errors import RecsysError
from recsys.schema import Schema


def plan_run(config: RunConfig, schema: Schema, cluster: Cluster) -> FoundPlan:
    """The plan of a run; the same on each rank that calls it.

    Raises:
        RecsysError: nothing to shard, a placement that is not available, or tables that do not fit;
            then the message names the largest features and config changes that would help.
    """
    run = DryRun(config, schema, cluster)
    _check_store(run)
    try:
        return find_plan(run.request())
    except DoesNotFitError:
        raise explain(run) from None


def _check_store(run: DryRun) -> None:
    if run.config.embeddings.store == "plain":
        whole = format_bytes(sum(run.feature_bytes().values()))
        raise RecsysError(
            "the plain store is not sharded: every device holds all tables",
            where="embeddings.store",
            got=f"{whole} on each device, with optimizer state",
            fix="set embeddings.store: fused (train.embedding_optimizer: rowwise_adagrad or sgd)",
        )
