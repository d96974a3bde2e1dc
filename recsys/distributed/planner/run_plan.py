"""From a run's config and its data set's schema to a plan; no rows, no GPU, no process group."""

from recsys.config.byte_sizes import format_bytes
from recsys.config.run import RunConfig
from recsys.distributed.planner.cluster import Cluster
from recsys.distributed.planner.dry_run import PaperRun
from recsys.distributed.planner.planner import DoesNotFitError, FoundPlan, find_plan
from recsys.distributed.planner.suggestions import explain
from recsys.errors import RecsysError
from recsys.schema import Schema


def plan_run(config: RunConfig, schema: Schema, cluster: Cluster) -> FoundPlan:
    """The plan of a run; each rank that asks for it gets the same.

    Raises RecsysError: nothing to shard, a placement that is not on offer, or tables that do not
    fit, with the features that cause it and the config lines that would mend it.
    """
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
