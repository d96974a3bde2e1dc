"""`recsys plan`: from a config file and a description of a cluster to a plan."""

from collections.abc import Sequence
from pathlib import Path

from recsys.config.byte_sizes import parse_bytes
from recsys.config.run import load_config
from recsys.distributed.planner.cluster import Cluster
from recsys.distributed.planner.description import PlanDescription, describe_plan
from recsys.distributed.planner.dry_run import DryRun
from recsys.distributed.planner.suggestions import plan_run
from recsys.distributed.run_memory import check_run_budget, count_run_bytes
from recsys.errors import RecsysError, did_you_mean

DEVICES = ("cuda", "cpu")


def plan_file(
    config_path: Path,
    overrides: Sequence[str],
    size: tuple[int, int],
    device: str,
    hbm: str,
    host_memory: str,
) -> PlanDescription:
    """The plan for `size` = (devices, devices per node); memory sizes are text such as 80GB."""
    if device not in DEVICES:
        raise RecsysError(
            f"unknown device {device!r}",
            where="--device",
            expected=" or ".join(DEVICES),
            fix=did_you_mean(device, DEVICES),
        )
    cluster = Cluster(
        world_size=size[0],
        devices_per_node=size[1],
        device_type=device,
        hbm_bytes=parse_bytes(hbm, "--hbm") if device == "cuda" else 0,
        host_bytes=parse_bytes(host_memory, "--host-memory"),
    )
    config = load_config(config_path, overrides)
    schema = config.data.load_schema()
    check_run_budget(config, schema)
    found = plan_run(config, schema, cluster)
    embeddings = DryRun(config, schema, cluster).embeddings()
    return describe_plan(found, embeddings, count_run_bytes(config, schema))
