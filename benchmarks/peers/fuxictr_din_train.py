"""Trains FuxiCTR's DIN on a dataset that our `prepare` wrote. Runs under FuxiCTR's own python.

    PEER_PYTHON fuxictr_din_train.py --checkout FUXICTR --data DATASET --work DIR \
        --features item category item_history category_history --pairs JSON --out DIR/scores
    PEER_PYTHON fuxictr_din_train.py … --throughput --steps 40

The first trains to its early stop and writes <out>_valid.npy and <out>_test.npy, a logit a row in
file order; --throughput times its own `train_epoch`. Both end with one line of JSON.
"""

import argparse
import json
import os
import statistics
import time
from pathlib import Path

from fuxictr_din import build_din, din_settings, feature_map_of, give_logits, table_owners
from fuxictr_model import add_to_path
from fuxictr_train import FirstBatches, watch

SPLITS = ("train", "valid", "test")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkout", type=Path, required=True, help="a clone of reczoo/FuxiCTR")
    parser.add_argument("--data", type=Path, required=True, help="a dataset of ours")
    parser.add_argument("--work", type=Path, required=True, help="its padded rows and checkpoints")
    parser.add_argument("--features", nargs="+", required=True, help="histories last")
    parser.add_argument("--pairs", type=json.loads, required=True)
    parser.add_argument("--set", type=json.loads, default={}, help="settings that differ, as JSON")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", type=int, default=0, help="processes of its DataLoader")
    parser.add_argument("--epochs", type=int, default=100, help="at most")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--throughput", action="store_true")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--warmup-steps", type=int, default=5)
    return parser.parse_args()


def pad(column, max_length: int):
    """Lists of our ids → (rows, max_length) of FuxiCTR's, 0 behind the last behavior."""
    import numpy as np

    lists = column.combine_chunks()
    offsets = lists.offsets.to_numpy()
    ids = lists.values.to_numpy()
    lengths = np.diff(offsets)
    places = np.arange(offsets[0], offsets[-1]) - np.repeat(offsets[:-1], lengths)
    padded = np.zeros((len(lists), max_length), np.int32)
    padded[np.repeat(np.arange(len(lists)), lengths), places] = ids[offsets[0] : offsets[-1]] + 1
    return padded


def write_padded(arguments: argparse.Namespace, schema: dict, split: str) -> Path:
    """The split as FuxiCTR's loader reads it: one file, lists of one length."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    target = arguments.work / f"{split}.parquet"
    if target.exists():
        return target
    files = [arguments.data / file["path"] for file in schema["splits"][split]["files"]]
    rows = pa.concat_tables(pq.read_table(file) for file in files)
    lengths = {f["name"]: f["max_length"] for f in schema["features"] if f["kind"] == "sequence"}
    columns = {}
    for name in arguments.features:
        if name in lengths:
            flat = pa.array(pad(rows[name], lengths[name]).reshape(-1))
            columns[name] = pa.FixedSizeListArray.from_arrays(flat, lengths[name])
        else:
            columns[name] = rows[name].to_numpy() + 1
    columns["label"] = rows[schema["label"]].to_numpy()
    partial = target.with_name(f".{split}.{os.getpid()}.parquet")
    pq.write_table(pa.table(columns), partial)
    partial.replace(target)
    return target


def make_loader(feature_map, path: Path, arguments: argparse.Namespace, settings: dict):
    from fuxictr.pytorch.dataloaders import RankDataLoader

    loaders = RankDataLoader(
        feature_map,
        stage="train",
        train_data=str(path),
        batch_size=settings["batch_size"],
        shuffle=path.stem == "train",
        data_format="parquet",
        num_workers=arguments.workers,
    )
    return loaders.make_iterator()[0]


def score(model, loader):
    """Logits of all rows in file order, (rows,) float32."""
    import numpy as np
    import torch

    model.eval()
    with torch.no_grad():
        parts = [model.forward(batch)["y_pred"].squeeze(1).numpy() for batch in loader]
    return np.concatenate(parts).astype(np.float32)


def train(model, loaders: dict, arguments: argparse.Namespace) -> dict:
    """Fits with early stopping on valid AUC, scores valid and test with the best checkpoint."""
    import numpy as np

    seen = watch(model)
    start = time.perf_counter()
    model.fit(loaders["train"], validation_data=loaders["valid"], epochs=arguments.epochs)
    seconds = time.perf_counter() - start
    give_logits(model)
    for split in ("valid", "test"):
        np.save(f"{arguments.out}_{split}.npy", score(model, loaders[split]), allow_pickle=False)
    Path(model.checkpoint).unlink()
    norms = seen.pop("gradient_norm")
    return {
        "rows": {split: loader.num_samples for split, loader in loaders.items()},
        "epochs": len(seen["valid_auc_by_epoch"]),
        "seconds": round(seconds, 1),
        "clipped_steps": sum(norm > 10.0 for norm in norms),
        "steps": len(norms),
        **seen,
    }


def measure_throughput(model, loader, arguments: argparse.Namespace, batch_size: int) -> dict:
    """Steady state of its own train_epoch, loader included, evaluation left out."""
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
        "samples_per_second": round(len(steps) * batch_size / sum(steps)),
        "step_milliseconds": round(statistics.median(steps) * 1e3, 2),
        "loader_wait_milliseconds": round(statistics.mean(batches.waits[skip:]) * 1e3, 2),
        "steps": len(steps),
    }


def main() -> None:
    arguments = parse_arguments()
    add_to_path(arguments.checkout.resolve(), "din")
    import torch
    from fuxictr.pytorch.torch_utils import seed_everything

    torch.set_num_threads(arguments.threads)
    arguments.work.mkdir(parents=True, exist_ok=True)
    schema = json.loads((arguments.data / "schema.json").read_text())
    known = {feature["name"]: feature for feature in schema["features"]}
    cardinalities = {name: known[name]["cardinality"] for name in arguments.features}
    lengths = {n: known[n]["max_length"] for n in cardinalities if known[n]["kind"] == "sequence"}
    fields = feature_map_of(cardinalities, lengths, table_owners(arguments.pairs))
    splits = ("train",) if arguments.throughput else SPLITS
    files = {split: write_padded(arguments, schema, split) for split in splits}
    seed_everything(arguments.seed)
    settings = din_settings(arguments.pairs, arguments.set)
    folder = arguments.work / f"din_{arguments.seed}_{os.getpid()}"
    feature_map, model = build_din(fields, settings, folder)
    loaders = {s: make_loader(feature_map, file, arguments, settings) for s, file in files.items()}
    if arguments.throughput:
        size = settings["batch_size"]
        result = measure_throughput(model, loaders["train"], arguments, size)
    else:
        result = train(model, loaders, arguments)
    facts = {"seed": arguments.seed, "threads": arguments.threads, "torch": torch.__version__}
    print(json.dumps({**facts, **result, "settings": settings}), flush=True)
    os._exit(0)  # its loader's processes may outlive the last batch


if __name__ == "__main__":
    main()
