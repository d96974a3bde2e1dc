"""How many samples a second does `recsys train` reach from Parquet, loader and Lightning included?

On one GPU the batches are copied while the one before computes. With a process group of one the
tables are a sharded store, with and without torchrec's pipeline: what its exchanges cost.
"""

import json
import tempfile
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import torch.distributed as dist

from benchmarks.generated import write_criteo_dataset
from benchmarks.gpu.setting import Point, Setting
from benchmarks.speed.training_contenders import run_config
from recsys.config.base import validate
from recsys.config.run import RunConfig
from recsys.config.yaml_files import apply_overrides
from recsys.distributed.context import join_ranks
from recsys.training.run_folder.folder import TRAINING_FILE
from recsys.training.train import train

IDS, ROWS, BATCH_SIZE = 10_000_000, 3_000_000, 16_384
SMALL_IDS, SMALL_ROWS, SMALL_BATCH_SIZE = 10_000, 2_000, 256
MODELS = ("dcn_v2", "autoint")
# store, in a process group, train.pipeline
WAYS = (
    ("fused", False, "auto"),
    ("fused", True, "off"),
    ("fused", True, "on"),
    ("plain", False, "auto"),
)


def points(setting: Setting) -> Iterator[Point]:
    ids, rows = (SMALL_IDS, SMALL_ROWS) if setting.is_small else (IDS, ROWS)
    with tempfile.TemporaryDirectory() as folder:
        data = write_criteo_dataset(Path(folder) / "rows", ids, rows, valid_rows=4096)
        for store, is_grouped, pipeline in WAYS:
            for model in MODELS:
                what: Point = {
                    "model": model,
                    "store": store,
                    "process_group": is_grouped,
                    "pipeline": pipeline,
                }
                config = config_of(setting, data, model, store, pipeline)
                yield setting.attempt(what, run_once, setting, config, is_grouped)


def config_of(setting: Setting, data: Path, model: str, store: str, pipeline: str) -> RunConfig:
    batch_size = SMALL_BATCH_SIZE if setting.is_small else BATCH_SIZE
    content = run_config(data, model, steps=1).model_dump(mode="json")
    changes = [
        f"train.device={setting.device.type}",
        "train.steps=null",
        "train.epochs=1",  # the one that decodes the files
        f"train.pipeline={pipeline}",
        f"embeddings.store={store}",
        f"data.global_batch_size={batch_size}",
    ]
    if store == "plain":
        changes.append("train.embedding_optimizer={name: sparse_adam, learning_rate: 0.001}")
    return validate(RunConfig, apply_overrides(content, changes), "benchmark")


def run_once(setting: Setting, config: RunConfig, is_grouped: bool) -> Point:
    group = join_ranks(setting.device, needs_group=True) if is_grouped else nullcontext()
    try:
        with tempfile.TemporaryDirectory() as folder, group as ranks:
            train(config, Path(folder) / "run", ranks=ranks)
            facts = json.loads((Path(folder) / "run" / TRAINING_FILE).read_text())["training"]
    finally:
        if dist.is_initialized():  # a failure leaves the group to whoever comes next
            dist.destroy_process_group()
    return {
        "batch_size": config.data.global_batch_size,
        "samples_per_second": facts["samples_per_second"],
        "steps": facts["steps"],
    }
