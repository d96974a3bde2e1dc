"""Trains one FuxiCTR model and prints one JSON line. Runs under FuxiCTR's own python.

    PEER_PYTHON fuxictr_train.py --checkout FUXICTR --dataset criteo_kaggle --raw FILE --work DIR \
        --model autoint --seed 1 --set '{"learning_rate": 1e-3}'
    PEER_PYTHON fuxictr_train.py --checkout FUXICTR --throughput FILE.parquet --work DIR \
        --model dcn_v2 --set '{"batch_size": 4096}'

The first trains to its early stop and reports AUC and log loss; --throughput times its own
`train_epoch` on ids (I1…I13 float, C1…C26 int, label). It needs torch, fuxictr, polars<2 and, for
the checkout's tokenizer, keras_preprocessing.
"""

import argparse
import json
import os
import statistics
import time
from pathlib import Path

from fuxictr_datasets import SPLITS, build_dataset
from fuxictr_model import (
    MODELS,
    add_to_path,
    build_model,
    load_feature_map,
    settings_of,
    write_feature_map,
)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkout", type=Path, required=True, help="a clone of reczoo/FuxiCTR")
    parser.add_argument("--work", type=Path, required=True, help="its datasets and checkpoints")
    parser.add_argument("--model", choices=MODELS, default="autoint")
    parser.add_argument("--set", type=json.loads, default={}, help="settings that differ, as JSON")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", type=int, default=0, help="processes of its DataLoader")
    parser.add_argument("--dataset", choices=["criteo_kaggle", "avazu", "movielens_1m"])
    parser.add_argument("--raw", type=Path, help="the raw file; the folder of MovieLens")
    parser.add_argument("--min-count", type=int, default=2)
    parser.add_argument("--pooling", choices=["mean", "sum"], default="mean")
    parser.add_argument("--epochs", type=int, default=100, help="at most")
    parser.add_argument("--throughput", type=Path, help="a Parquet file of ids: time, do not score")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--warmup-steps", type=int, default=4)
    return parser.parse_args()


def make_loader(feature_map, path: Path, arguments: argparse.Namespace, *, shuffle: bool):
    from fuxictr.pytorch.dataloaders import RankDataLoader

    loaders = RankDataLoader(
        feature_map,
        stage="train",
        train_data=str(path),
        batch_size=settings_of(arguments.model, arguments.set)["batch_size"],
        shuffle=shuffle,
        data_format="parquet",
        num_workers=arguments.workers,
    )
    return loaders.make_iterator()[0]


def watch(model) -> dict[str, list]:
    """Records what its training does, by wrapping the calls it makes itself."""
    import torch

    seen: dict[str, list] = {
        "valid_auc_by_epoch": [],
        "learning_rate_by_epoch": [],
        "gradient_norm": [],
    }
    evaluate, clip = model.checkpoint_and_earlystop, torch.nn.utils.clip_grad_norm_

    def after_epoch(logs, **kwargs):
        seen["valid_auc_by_epoch"].append(round(float(logs["AUC"]), 6))
        seen["learning_rate_by_epoch"].append(model.optimizer.param_groups[0]["lr"])
        return evaluate(logs, **kwargs)

    def clip_and_note(parameters, max_norm):
        norm = clip(parameters, max_norm)
        seen["gradient_norm"].append(float(norm))
        return norm

    model.checkpoint_and_earlystop = after_epoch
    torch.nn.utils.clip_grad_norm_ = clip_and_note
    return seen


def train(arguments: argparse.Namespace, settings: dict) -> dict:
    """Fits with early stopping, scores the best checkpoint."""
    folder = build_dataset(
        arguments.dataset, arguments.raw, arguments.work, arguments.min_count, arguments.pooling
    )
    feature_map = load_feature_map(folder, settings)
    loaders = {
        split: make_loader(
            feature_map, folder / f"{split}.parquet", arguments, shuffle=split == "train"
        )
        for split in SPLITS
    }
    checkpoints = arguments.work / f"{arguments.model}_{arguments.seed}_{os.getpid()}"
    model = build_model(arguments.model, feature_map, settings, checkpoints)
    seen = watch(model)
    start = time.perf_counter()
    model.fit(loaders["train"], validation_data=loaders["valid"], epochs=arguments.epochs)
    seconds = time.perf_counter() - start
    scores = {split: model.evaluate(loaders[split]) for split in ("valid", "test")}
    Path(model.checkpoint).unlink()
    norms = seen.pop("gradient_norm")
    return {
        "dataset": arguments.dataset,
        "rows": {split: loaders[split].num_samples for split in SPLITS},
        "num_ids": feature_map.total_features,
        "num_parameters": sum(p.numel() for p in model.parameters()),
        "min_count": arguments.min_count,
        "max_epochs": arguments.epochs,
        "epochs": len(seen["valid_auc_by_epoch"]),
        "seconds": round(seconds, 1),
        **seen,
        "max_gradient_norm": round(max(norms), 4),
        "clipped_steps": sum(norm > 10.0 for norm in norms),
        **{
            f"{split}_{name}": float(value)
            for split, metrics in scores.items()
            for name, value in (("auc", metrics["AUC"]), ("log_loss", metrics["logloss"]))
        },
    }


class FirstBatches:
    """The first batches of a loader, with the time spent waiting for each."""

    def __init__(self, loader, num_batches: int) -> None:
        self.loader, self.num_batches, self.waits = loader, num_batches, []

    def __len__(self) -> int:
        return self.num_batches

    def __iter__(self):
        batches = iter(self.loader)
        for _ in range(self.num_batches):
            start = time.perf_counter()
            batch = next(batches)
            self.waits.append(time.perf_counter() - start)
            yield batch


def feature_map_of_ids(parquet: Path) -> dict[str, dict]:
    """Fields by column type; a column's ids are 0 … its largest, as written by its metadata."""
    import pyarrow.parquet as pq

    schema = pq.read_schema(parquet)
    cardinalities = json.loads(schema.metadata[b"cardinalities"])
    fields = {name: {"source": "", "type": "numeric"} for name in schema.names if name[0] == "I"}
    for name, cardinality in cardinalities.items():
        fields[name] = {"source": "", "type": "categorical", "vocab_size": cardinality}
    return fields


def measure_throughput(arguments: argparse.Namespace, settings: dict) -> dict:
    """Steady state of its own train_epoch, loader and evaluation-free."""
    folder = arguments.work / f"throughput_{arguments.throughput.stem}"
    write_feature_map(folder, feature_map_of_ids(arguments.throughput))
    feature_map = load_feature_map(folder, settings)
    loader = make_loader(feature_map, arguments.throughput, arguments, shuffle=True)
    model = build_model(arguments.model, feature_map, settings, arguments.work / "checkpoints")
    ends: list[float] = []
    step = model.optimizer.step

    def timed_step(*args, **kwargs):
        result = step(*args, **kwargs)
        ends.append(time.perf_counter())
        return result

    model.optimizer.step = timed_step
    # what its `fit` sets before the first epoch, with evaluation pushed out of reach
    model._eval_steps, model._total_steps, model._max_gradient_norm = 10**9, 0, 10.0
    model._stop_training, model._epoch_index = False, 0
    batches = FirstBatches(loader, arguments.steps + arguments.warmup_steps)
    model.train_epoch(batches)
    skip = arguments.warmup_steps
    steps = [end - start for start, end in zip(ends[skip - 1 :], ends[skip:], strict=False)]
    return {
        "samples_per_second": round(len(steps) * settings["batch_size"] / sum(steps)),
        "step_milliseconds": round(statistics.median(steps) * 1e3, 2),
        "loader_wait_milliseconds": round(statistics.mean(batches.waits[skip:]) * 1e3, 2),
        "steps": len(steps),
    }


def main() -> None:
    arguments = parse_arguments()
    add_to_path(arguments.checkout.resolve(), arguments.model)
    import torch
    from fuxictr.pytorch.torch_utils import seed_everything

    torch.set_num_threads(arguments.threads)
    seed_everything(arguments.seed)
    settings = settings_of(arguments.model, arguments.set)
    measure = measure_throughput if arguments.throughput else train
    result = measure(arguments, settings)
    record = {
        "model": arguments.model,
        "seed": arguments.seed,
        "threads": arguments.threads,
        "workers": arguments.workers,
        "torch": torch.__version__,
        **result,
        "settings": settings,
    }
    print(json.dumps(record), flush=True)
    os._exit(0)  # its loader's processes may outlive the last batch


if __name__ == "__main__":
    main()
