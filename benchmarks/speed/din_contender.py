"""One timed training run of DIN through the public API. Ends with one line of JSON.

    python -m benchmarks.speed.din_contender --data DIR --steps 45 --threads 2

`benchmarks.speed.din` starts it, one process a run.
"""

import argparse
import json
from pathlib import Path

import torch

from benchmarks.histories.generated import HISTORIES, PAIR
from benchmarks.speed.training_contenders import run_ours
from recsys.config.run import RunConfig

BATCH_SIZE, EMBEDDING_DIM = 1024, 16


def run_config(data: Path, steps: int, activation: str) -> RunConfig:
    """FuxiCTR's sizes; tables by the fused optimiser that is our default."""
    return RunConfig.model_validate(
        {
            "data": {"path": data, "global_batch_size": BATCH_SIZE},
            "embeddings": {
                "default": {"method": "full_table", "embedding_dim": EMBEDDING_DIM},
                "shared_tables": HISTORIES,
            },
            "model": {
                "name": "din",
                "pairs": [PAIR],
                "attention_hidden_dims": [64],
                "attention_activation": activation,
                "softmax": False,
                "target_aware": False,
                "hidden_dims": [256, 128],
                "activation": "relu",
            },
            "train": {
                "steps": steps,
                "device": "cpu",
                "dense_optimizer": {"name": "adam", "learning_rate": 1e-3},
                "embedding_optimizer": {"name": "rowwise_adagrad", "learning_rate": 1e-2},
            },
        }
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--activation", choices=["relu", "dice"], default="relu")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    config = run_config(arguments.data, arguments.steps, arguments.activation)
    print(json.dumps({"samples_per_second": round(run_ours(config, arguments.steps))}))


if __name__ == "__main__":
    main()
