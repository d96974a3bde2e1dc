"""One timed training run on the ranks of the environment: ours, or a bare torchrec loop.

`benchmarks.speed.many_devices` starts it. The bare loop is DistributedModelParallel over the same
network and the same sharding plan, its batches in memory: no Lightning, no loader, no checks. The
first rank prints one JSON line.
"""

import argparse
import json
import os
import shutil
import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.speed.training_contenders import run_config
from recsys.compat.malloc import keep_freed_memory
from recsys.compat.torchrec import (
    DistributedModelParallel,
    EmbeddingBagCollectionSharder,
    ShardingEnv,
    apply_optimizer_in_backward,
)
from recsys.config.run import RunConfig
from recsys.data.loader import BatchLoader
from recsys.distributed.context import Ranks, join_ranks
from recsys.distributed.planner.cluster import this_cluster
from recsys.distributed.planner.dry_run import DryRun
from recsys.distributed.planner.suggestions import plan_run
from recsys.embeddings.tables.torchrec_collection import (
    build_collection,
    fused_optimizer,
    keyed_jagged_tensor,
)
from recsys.models.network import build_network
from recsys.schema import load_schema
from recsys.training.run_folder.folder import TRAINING_FILE
from recsys.training.train import train

WARM_UP_STEPS = 5


class BareModel(nn.Module):
    """torchrec's collection and our network: logits of (dense, sparse)."""

    def __init__(self, config: RunConfig) -> None:
        super().__init__()
        schema = load_schema(config.data.path)
        features = DryRun(config, schema, this_cluster(1, 1, "cpu")).embeddings()
        store = features.store
        lookups = [look for group in store.groups.values() for look in group.lookups]
        self.collection = build_collection(store.tables, lookups, torch.device("meta"))
        optimizer, kwargs = fused_optimizer(config.train.embedding_optimizer, torch.device("cpu"))
        apply_optimizer_in_backward(optimizer, self.collection.parameters(), kwargs)
        self.keys = [look.key for look in lookups]
        self.network = build_network(config.model, config.embeddings, schema, features.output_dims)

    def forward(self, dense: Tensor, sparse: object) -> Tensor:
        vectors = self.collection(sparse)
        return self.network.score(torch.cat([vectors[key] for key in self.keys], dim=1), dense)


def run_bare(config: RunConfig, steps: int, ranks: Ranks) -> float:
    keep_freed_memory()
    schema = load_schema(config.data.path)
    plan = plan_run(config, schema, this_cluster(ranks.world_size, ranks.world_size, "cpu"))
    torch.manual_seed(config.train.seed)
    model = DistributedModelParallel(
        BareModel(config),
        env=ShardingEnv.from_process_group(torch.distributed.group.WORLD),
        plan=plan.sharding_plan("collection"),
        sharders=[EmbeddingBagCollectionSharder()],
    )
    tables = {id(p) for p in model.module.collection.parameters()}
    dense = [p for p in model.parameters() if id(p) not in tables]
    replicated = [p for p in model.module.collection.parameters() if p.requires_grad]
    optimizers = [torch.optim.Adam(dense, lr=1e-3)]
    optimizers += [torch.optim.SGD(replicated, lr=1e-2)] if replicated else []
    loader = BatchLoader(
        config.data.path, schema, "train", config.data, seed=0, shuffle=True,
        rank=ranks.rank, world_size=ranks.world_size,
    )  # fmt: skip
    batches = list(loader)
    ends = []
    for number in range(steps):
        batch = batches[number % len(batches)]
        loss = F.binary_cross_entropy_with_logits(
            model(batch.dense, keyed_jagged_tensor(batch.sparse)), batch.labels
        )
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        ends.append(time.perf_counter())
    return (
        (steps - WARM_UP_STEPS)
        * config.data.global_batch_size
        / (ends[-1] - ends[WARM_UP_STEPS - 1])
    )


def run_ours(config: RunConfig, ranks: Ranks) -> float:
    folder = Path(ranks.broadcast(tempfile.mkdtemp() if ranks.is_first else None))
    train(config, folder / "run", ranks=ranks)
    facts = json.loads((folder / "run" / TRAINING_FILE).read_text())["training"]
    ranks.barrier()
    if ranks.is_first:
        shutil.rmtree(folder)
    return facts["samples_per_second"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("contender", choices=["ours", "bare"])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--batch-size", type=int, default=4096)
    parser.add_argument("--every", type=int, help="steps from one checkpoint to the next")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    config = run_config(arguments.data, arguments.model, arguments.steps)
    data = config.data.model_copy(update={"global_batch_size": arguments.batch_size})
    world_size = int(os.environ["WORLD_SIZE"])
    update = {"checkpoint_every_steps": arguments.every, "devices": world_size}
    section = config.train.model_copy(update=update)
    config = config.model_copy(update={"data": data, "train": section})
    with join_ranks(torch.device("cpu")) as ranks:
        speed = (
            run_ours(config, ranks)
            if arguments.contender == "ours"
            else run_bare(config, arguments.steps, ranks)
        )
        if ranks.is_first:
            print(json.dumps({"samples_per_second": round(speed)}))


if __name__ == "__main__":
    main()
