"""One timed training run: through the public API, of DIN too, or as a bare loop. One JSON line.

    python -m benchmarks.speed.training_contenders bare --data DIR --model dcn_v2 --steps 40

`benchmarks.speed.training` and `benchmarks.speed.din` start one process for each run. The
bare loop has the same network, the same fbgemm tables and the same allocator setting over tensors
in memory: no Lightning, no loader, no torchrec, no checks.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from fbgemm_gpu.split_embedding_configs import EmbOptimType
from fbgemm_gpu.split_table_batched_embeddings_ops_common import EmbeddingLocation
from fbgemm_gpu.split_table_batched_embeddings_ops_training import (
    ComputeDevice,
    SplitTableBatchedEmbeddingBagsCodegen,
)
from torch.nn import functional as F

from benchmarks.generated import HISTORIES, PAIR
from recsys.compat.malloc import keep_freed_memory
from recsys.config.run import RunConfig
from recsys.models.network import Network, build_network
from recsys.schema import Schema, load_schema
from recsys.training.run_folder.folder import TRAINING_FILE
from recsys.training.train import train

BATCH_SIZE, DIN_BATCH_SIZE, EMBEDDING_DIM = 4096, 1024, 16
DENSE_LEARNING_RATE, TABLE_LEARNING_RATE = 1e-3, 1e-2
MODELS = {
    "dcn_v2": {"name": "dcn_v2", "num_cross_layers": 3, "hidden_dims": (256, 128)},
    "autoint": {
        "name": "autoint",
        "num_layers": 3,
        "num_heads": 2,
        "attention_dim": 16,
        "residual": "identity_if_equal",
        "hidden_dims": (256, 128),
    },
}


def run_config(data: Path, model: str, steps: int) -> RunConfig:
    return RunConfig.model_validate(
        {
            "data": {"path": data, "global_batch_size": BATCH_SIZE},
            "embeddings": {"default": {"method": "full_table", "embedding_dim": EMBEDDING_DIM}},
            "model": MODELS[model],
            "train": {
                "steps": steps,
                "device": "cpu",
                "dense_optimizer": {"name": "adam", "learning_rate": DENSE_LEARNING_RATE},
                "embedding_optimizer": {
                    "name": "rowwise_adagrad",
                    "learning_rate": TABLE_LEARNING_RATE,
                },
            },
        }
    )


def din_config(data: Path, steps: int, activation: str) -> RunConfig:
    """FuxiCTR's sizes; tables by the fused optimizer that is our default."""
    content = run_config(data, "dcn_v2", steps).model_dump(mode="json")
    content["data"]["global_batch_size"] = DIN_BATCH_SIZE
    shared = {h: {"shares_table_with": target} for h, target in HISTORIES.items()}
    content["embeddings"]["features"] = shared
    content["model"] = {
        "name": "din",
        "pairs": [PAIR],
        "attention_hidden_dims": [64],
        "attention_activation": activation,
        "softmax": False,
        "target_aware": False,
        "hidden_dims": [256, 128],
        "activation": "relu",
    }
    return RunConfig.model_validate(content)


def run_ours(config: RunConfig, steps: int) -> float:
    """Samples/s as `recsys train` reports them; its first steps do not count."""
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder) / "run"
        train(config, run_dir)
        facts = json.loads((run_dir / TRAINING_FILE).read_text())["training"]
    assert facts["steps"] == steps
    return facts["samples_per_second"]


class BareLoop:
    """Tensors in memory, tables, network: one step is one call."""

    def __init__(self, config: RunConfig, schema: Schema) -> None:
        torch.manual_seed(config.train.seed)
        self.tables = SplitTableBatchedEmbeddingBagsCodegen(
            [
                (f.num_ids, EMBEDDING_DIM, EmbeddingLocation.HOST, ComputeDevice.CPU)
                for f in schema.sparse
            ],
            optimizer=EmbOptimType.EXACT_ROWWISE_ADAGRAD,
            learning_rate=TABLE_LEARNING_RATE,
            eps=1e-8,
        )
        self.tables.init_embedding_weights_uniform(-0.01, 0.01)
        widths = {f.name: EMBEDDING_DIM for f in schema.sparse}
        self.network: Network = build_network(config.model, config.embeddings, schema, widths)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=DENSE_LEARNING_RATE)
        rows = pq.read_table([config.data.path / file.path for file in schema.split("train").files])
        ids = [rows[f.name].to_numpy() for f in schema.sparse]
        self.ids = torch.from_numpy(np.stack(ids))  # (F, rows)
        dense = [rows[f.name].to_numpy() for f in schema.numerical]
        self.dense = torch.from_numpy(np.stack(dense, axis=1))  # (rows, N)
        self.labels = torch.from_numpy(rows[schema.label].to_numpy().astype(np.float32))
        self.offsets = torch.arange(BATCH_SIZE * len(ids) + 1, dtype=torch.int32)

    def step(self, number: int) -> None:
        first = number * BATCH_SIZE % (len(self.labels) - BATCH_SIZE + 1)
        rows = slice(first, first + BATCH_SIZE)
        self.optimizer.zero_grad()
        vectors = self.tables(self.ids[:, rows].reshape(-1), self.offsets)  # (B, F·D)
        logits = self.network.score(vectors, self.dense[rows])
        F.binary_cross_entropy_with_logits(logits, self.labels[rows]).backward()
        self.optimizer.step()


def run_bare(config: RunConfig, steps: int) -> float:
    """Samples/s after the warm-up that our own counter has too."""
    warm_up = 5
    keep_freed_memory()
    loop = BareLoop(config, load_schema(config.data.path))
    ends = []
    for number in range(steps):
        loop.step(number)
        ends.append(time.perf_counter())
    seconds = ends[-1] - ends[warm_up - 1]
    return (steps - warm_up) * BATCH_SIZE / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("contender", choices=["ours", "bare", "din"])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", choices=MODELS, help="of ours and bare")
    parser.add_argument("--activation", choices=["relu", "dice"], default="relu", help="of DIN")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.contender == "din":
        config = din_config(arguments.data, arguments.steps, arguments.activation)
    else:
        config = run_config(arguments.data, arguments.model, arguments.steps)
    run = run_bare if arguments.contender == "bare" else run_ours
    print(json.dumps({"samples_per_second": round(run(config, arguments.steps))}))


if __name__ == "__main__":
    main()
