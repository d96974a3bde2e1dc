"""What would a step cost with 1 TB of tables on 8 and on 64 GPUs? An estimate; nothing is run.

`python -m benchmarks.speed.plan_at_scale` asks torchrec's planner through `recsys.sharding`:
no GPU, no rows. The tables are Criteo Terabyte's 26 (the cardinalities that MLPerf's DLRM states)
with every cardinality × 11, so that tables of 128 floats and row-wise Adagrad's state take 1 TB.
"""

import time

from benchmarks import harness
from benchmarks.tables import table
from recsys.config.base import validate
from recsys.config.byte_sizes import format_bytes
from recsys.config.run import RunConfig
from recsys.distributed.planner.cluster import Cluster
from recsys.distributed.planner.description import PlanDescription, describe_plan
from recsys.distributed.planner.dry_run import DryRun
from recsys.distributed.planner.suggestions import plan_run
from recsys.distributed.run_memory import count_run_bytes
from recsys.errors import RecsysError
from recsys.schema import Feature, HashEncoding, Schema

CRITEO_TERABYTE = (
    45_833_188, 36_746, 17_245, 7_413, 20_243, 3, 7_114, 1_441, 62, 29_275_261, 1_572_176,
    345_138, 10, 2_209, 11_267, 128, 4, 974, 14, 48_937_457, 11_316_796, 40_094_537, 452_104,
    12_606, 104, 35,
)  # fmt: skip
TIMES = 11
EMBEDDING_DIM = 128
BATCH_SIZE_PER_RANK = 8192
HBM_BYTES = 80 * 10**9
HOST_BYTES = 2 * 10**12
# on 8 GPUs the tables do not fit: the two largest go to the host's memory, as the message proposes
ON_HOST = {name: {"kernel": "uvm_caching", "cache_load_factor": 0.1} for name in ("C20", "C1")}
# (devices, rows of a step in all, placement)
CASES = (
    (8, 8 * BATCH_SIZE_PER_RANK, {}),
    (8, 8 * BATCH_SIZE_PER_RANK, ON_HOST),
    (16, 16 * BATCH_SIZE_PER_RANK, {}),
    (32, 32 * BATCH_SIZE_PER_RANK, {}),
    (64, 64 * BATCH_SIZE_PER_RANK, {}),
    (64, 8 * BATCH_SIZE_PER_RANK, {}),
)


def main() -> None:
    arguments = harness.parser(__doc__).parse_args()
    schema = terabyte_schema()
    results, rows, description, misfit = [], [], None, ""
    for devices, global_batch_size, placement in CASES:
        start = time.perf_counter()
        cluster = Cluster(
            world_size=devices,
            devices_per_node=8,
            device_type="cuda",
            hbm_bytes=HBM_BYTES,
            host_bytes=HOST_BYTES,
        )
        config = run_config(global_batch_size, placement)
        case = {"devices": devices, "global_batch_size": global_batch_size, "placement": placement}
        try:
            found = plan_run(config, schema, cluster)
        except RecsysError as error:
            misfit = str(error)
            results.append({**case, "fits": False, "message": misfit})
            where = "all on the devices"
            rows.append(row(devices, global_batch_size, where, "does not fit"))
            continue
        seconds = time.perf_counter() - start
        embeddings = DryRun(config, schema, cluster).embeddings()
        description = describe_plan(found, embeddings, count_run_bytes(config, schema))
        results.append({**case, "fits": True, **numbers(description, seconds)})
        rows.append(estimate_row(description, global_batch_size, placement))
    harness.report(arguments, {"cases": results}, to_markdown(rows, description, misfit))


def terabyte_schema() -> Schema:
    features = tuple(
        Feature(
            name=f"C{i}",
            kind="categorical",
            column=f"C{i}",
            encoding=HashEncoding(),
            cardinality=TIMES * cardinality,
        )
        for i, cardinality in enumerate(CRITEO_TERABYTE, start=1)
    )
    return Schema(name=f"criteo_terabyte_x{TIMES}", features=features, splits={})


def run_config(global_batch_size: int, placement: dict) -> RunConfig:
    content = {
        "data": {"path": "unused", "global_batch_size": global_batch_size},
        "embeddings": {
            "default": {"method": "full_table", "embedding_dim": EMBEDDING_DIM},
            "placement": placement,
        },
        "model": {"name": "dcn_v2"},
        "train": {
            "epochs": 1,
            "dense_optimizer": {"learning_rate": 1e-3},
            "embedding_optimizer": {"name": "rowwise_adagrad", "learning_rate": 0.1},
        },
    }
    return validate(RunConfig, content, "benchmarks.speed.plan_at_scale")


def numbers(plan: PlanDescription, seconds: float) -> dict:
    return {
        "estimated_step_milliseconds": plan.step_milliseconds,
        "time_imbalance": plan.time_imbalance,
        "memory_imbalance": plan.memory_imbalance,
        "largest_rank_device_bytes": max(rank.device_bytes for rank in plan.ranks),
        "largest_rank_host_bytes": max(rank.host_bytes for rank in plan.ranks),
        "largest_rank_planned_bytes": max(rank.planned_bytes for rank in plan.ranks),
        "table_bytes": plan.train_bytes,
        "tables_by_sharding": count(entry.sharding for entry in plan.tables),
        "planning_seconds": round(seconds, 2),
        "assumptions": list(plan.assumptions),
    }


def estimate_row(plan: PlanDescription, global_batch_size: int, placement: dict) -> list:
    where = f"{', '.join(placement)} uvm_caching" if placement else "all on the devices"
    fullest = max(plan.ranks, key=lambda rank: rank.planned_bytes)
    room = f"{format_bytes(fullest.planned_bytes)} of {format_bytes(plan.cluster.table_bytes)}"
    ways = count(entry.sharding for entry in plan.tables)
    cut = ", ".join(f"{n} {way}" for way, n in ways.items())
    return row(
        plan.cluster.world_size,
        global_batch_size,
        where,
        f"{plan.step_milliseconds:.2f} ms",
        room,
        f"{plan.memory_imbalance:.2f} / {plan.time_imbalance:.2f}",
        cut,
    )


def row(devices: int, global_batch_size: int, where: str, *cells: str) -> list:
    filled = [*cells, *["–"] * (4 - len(cells))]
    return [devices, f"{global_batch_size:,}", where, *filled]


def count(names) -> dict[str, int]:
    names = list(names)
    return {name: names.count(name) for name in sorted(set(names))}


def to_markdown(rows: list[list], plan: PlanDescription, misfit: str) -> str:
    assumptions = [
        "devices of 80 GB, 8 on a node with 2 TB of host memory",
        *(a for a in plan.assumptions if "samples a step" not in a),
        "float32 tables; the rows of a step are shared equally by the ranks",
    ]
    tables, dim = len(plan.tables), EMBEDDING_DIM
    return "\n".join(
        [
            "**An estimate that was not run on such devices.**\n",
            f"{tables} tables of {dim} floats, {format_bytes(plan.train_bytes)} with row-wise "
            f"Adagrad's state: Criteo Terabyte's cardinalities × {TIMES}.\n",
            table(
                [
                    "GPUs",
                    "rows a step",
                    "tables",
                    "tables' part of a step",
                    "fullest device",
                    "imbalance memory / time",
                    "sharding",
                ],
                rows,
            ),
            "\nAssumptions:\n",
            *(f"- {line}" for line in assumptions),
            "\nThe planner's message for 8 GPUs with all tables on the devices:\n",
            "```",
            misfit,
            "```",
        ]
    )


if __name__ == "__main__":
    main()
