"""Times FuxiCTR's Parquet loader, without a model. Runs under FuxiCTR's own python.

    PEER_PYTHON fuxictr_loader.py --checkout FUXICTR --data DATASET --work DIR --workers 3

DATASET is a prepared dataset with one train file. Prints one JSON line. Reading the file into
memory, which it does before the first batch unless --streaming, is reported apart.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

from fuxictr_model import load_feature_map, write_feature_map


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkout", type=Path, required=True, help="a clone of reczoo/FuxiCTR")
    parser.add_argument("--data", type=Path, required=True, help="a prepared dataset")
    parser.add_argument("--work", type=Path, required=True, help="for its feature map")
    parser.add_argument("--workers", type=int, default=0, help="processes of its DataLoader")
    parser.add_argument("--streaming", action="store_true")
    parser.add_argument("--batch-size", type=int, default=4096)
    parser.add_argument("--batches", type=int, default=200, help="timed ones, at most")
    parser.add_argument("--warmup-batches", type=int, default=4)
    return parser.parse_args()


def features_of(dataset: Path) -> dict[str, dict]:
    """Fields of FuxiCTR's feature map; the ids are there already."""
    fields = {}
    for feature in json.loads((dataset / "schema.json").read_text())["features"]:
        fields[feature["name"]] = {"source": "", "type": "numeric"}
        if feature["kind"] == "categorical":
            fields[feature["name"]] = {
                "source": "", "type": "categorical", "vocab_size": feature["cardinality"]
            }  # fmt: skip
    return fields


def time_batches(loader, batches: int, warmup_batches: int) -> tuple[int, float]:
    """Rows and seconds of the timed batches."""
    rows, start = 0, time.perf_counter()
    for number, batch in enumerate(loader):
        if number >= warmup_batches:
            rows += len(batch["label"])
        if number + 1 == warmup_batches:
            start = time.perf_counter()
        if number + 1 == warmup_batches + batches:
            break
    return rows, time.perf_counter() - start


def main() -> None:
    arguments = parse_arguments()
    sys.path.insert(0, str(arguments.checkout.resolve()))
    from fuxictr.pytorch.dataloaders import RankDataLoader

    folder = arguments.work / f"loader_{arguments.data.name}"
    write_feature_map(folder, features_of(arguments.data))
    start = time.perf_counter()
    loader, _ = RankDataLoader(
        load_feature_map(folder, {}),
        stage="train",
        train_data=str(next((arguments.data / "train").glob("*.parquet"))),
        batch_size=arguments.batch_size,
        shuffle=True,
        streaming=arguments.streaming,
        data_format="parquet",
        num_workers=arguments.workers,
    ).make_iterator()
    preparation = time.perf_counter() - start
    rows, seconds = time_batches(loader, arguments.batches, arguments.warmup_batches)
    result = {"rows_per_second": round(rows / seconds), "preparation_seconds": preparation}
    print(json.dumps(result), flush=True)
    os._exit(0)  # its workers would go on to the end of the epoch


if __name__ == "__main__":
    main()
