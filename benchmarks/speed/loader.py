"""How many rows a second does the loader alone give, compared with FuxiCTR's loader?

    python -m benchmarks.speed.loader --peer-python FUXICTR_ENV/bin/python --checkout FUXICTR
    python -m benchmarks.speed.loader --rows 50000 --batches 4 --rounds 1 --no-record

Criteo's shape: 26 int32 ids, 13 float32, a label, as `recsys prepare` writes them; batch 4096;
rows shuffled; ids by feature out. Each run is a process of its own, the contenders alternate,
medians count. Ours is timed over whole epochs, decoding from Parquet included; FuxiCTR's over
`--batches` batches, reading the file into memory not included (its streaming mode reads as it
goes).
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks import harness
from benchmarks.generated import capped_cardinalities, criteo_features, draw_rows
from benchmarks.tables import table
from data_pipelines.writing import SplitWriter, save_schema
from recsys.data.config import DataConfig
from recsys.data.loader import BatchLoader
from recsys.schema import Schema, Split, load_schema

BATCH_SIZE, EPOCHS, TOTAL_IDS, CHUNK_ROWS = 4096, 3, 2_000_000, 500_000
OURS = {
    "recsys, shuffled, 2 threads": ["--workers", 2],
    "recsys, shuffled, 1 thread": ["--workers", 1],
    "recsys, file order, 2 threads": ["--workers", 2, "--in-order"],
}
PEERS = {
    "FuxiCTR, no workers": ["--workers", 0],
    "FuxiCTR, 3 workers": ["--workers", 3],
    "FuxiCTR, streaming, 1 worker": ["--workers", 1, "--streaming"],
}


def write_dataset(folder: Path, rows: int) -> Path:
    """Generated rows in one train file; its cardinalities sum to TOTAL_IDS."""
    cardinalities = capped_cardinalities(TOTAL_IDS)
    writer = SplitWriter(folder, "train")
    chunk = pl.from_arrow(draw_rows(min(rows, CHUNK_ROWS), cardinalities))
    for start in range(0, rows, CHUNK_ROWS):
        writer.add(chunk.sample(fraction=1.0, shuffle=True, seed=start).head(rows - start))
    files = writer.close()
    split = Split(rows=rows, positives=writer.positives, files=files)
    save_schema(
        Schema(name=folder.name, features=criteo_features(cardinalities), splits={"train": split}),
        folder,
    )
    return folder


def measure_ours(dataset: Path, workers: int, in_order: bool) -> dict:
    """Whole epochs: the first, and the median of those that follow."""
    config = DataConfig(path=dataset, global_batch_size=BATCH_SIZE, num_workers=workers)
    schema = load_schema(dataset)
    loader = BatchLoader(dataset, schema, "train", config, seed=0, shuffle=not in_order)
    rates, first_batches = [], []
    for epoch in range(EPOCHS):
        loader.set_epoch(epoch)
        rows, start = 0, time.perf_counter()
        for batch in loader:
            if not rows:
                first_batches.append(time.perf_counter() - start)
            rows += len(batch)
        rates.append(rows / (time.perf_counter() - start))
    return {
        "rows_per_second": round(statistics.median(rates[1:])),
        "first_epoch_rows_per_second": round(rates[0]),
        "first_batch_seconds": statistics.median(first_batches[1:]),
    }


def commands(options: argparse.Namespace, dataset: Path) -> dict[str, list[object]]:
    ours = [sys.executable, "-m", "benchmarks.speed.loader", "--measure", dataset]
    found = {name: [*ours, *arguments] for name, arguments in OURS.items()}
    if options.peer_python is None:
        return found
    peer = [options.peer_python, harness.PEERS / "fuxictr_loader.py"]
    peer += ["--checkout", options.checkout, "--data", dataset, "--work", dataset.parent]
    peer += ["--batches", options.batches, "--batch-size", BATCH_SIZE]
    return found | {name: [*peer, *arguments] for name, arguments in PEERS.items()}


def measure_all(options: argparse.Namespace) -> dict:
    with tempfile.TemporaryDirectory() as name:
        dataset = write_dataset(Path(name) / "criteo_shape", options.rows)
        contenders = commands(options, dataset)
        runs = harness.alternate(
            options.rounds, {n: partial(harness.run_json, c) for n, c in contenders.items()}
        )
    medians = {
        contender: {key: float(np.median([run[key] for run in found])) for key in found[0]}
        for contender, found in runs.items()
    }
    return {
        "rows": options.rows, "batch_size": BATCH_SIZE, "rounds": options.rounds,
        "medians": medians, "runs": runs,
    }  # fmt: skip


def to_markdown(results: dict) -> str:
    rates = {name: found["rows_per_second"] for name, found in results["medians"].items()}
    best = max((rates[name] for name in PEERS if name in rates), default=None)
    ours = [(name, found) for name, found in results["medians"].items() if name in OURS]
    return "\n".join(
        [
            f"Rows per second of the loader alone: {results['rows']:,} generated rows of Criteo's "
            f"shape, batch {BATCH_SIZE}, medians of {results['rounds']} alternating rounds. Ours: "
            "whole epochs, decoding included. FuxiCTR: from its memory, reading not included, "
            "except when streaming.",
            "",
            table(
                ["", "rows per second", "× FuxiCTR's best"],
                [(n, f"{r:,.0f}", f"{r / best:.1f}" if best else "") for n, r in rates.items()],
            ),
            "",
            table(
                ["", "first batch after, s", "first epoch, rows per second"],
                [
                    (
                        name,
                        f"{found['first_batch_seconds']:.2f}",
                        f"{found['first_epoch_rows_per_second']:,.0f}",
                    )
                    for name, found in ours
                ],
            ),
        ]
    )


def main() -> None:
    parser = harness.parser(__doc__, rounds=3, peer="optional")
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--batches", type=int, default=200, help="of FuxiCTR, timed")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)  # ours, on this dataset
    parser.add_argument("--workers", type=int, default=2, help=argparse.SUPPRESS)
    parser.add_argument("--in-order", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure_ours(options.measure, options.workers, options.in_order)))
        return
    results = measure_all(options)
    harness.report(options, results, to_markdown(results))


if __name__ == "__main__":
    main()
