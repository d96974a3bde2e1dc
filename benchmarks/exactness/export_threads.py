"""Do exported models of histories give equal bits on any number of threads, and the model's scores?

    python -m benchmarks.exactness.export_threads

Generated rows with histories of 0 to 200 behaviors. Every model that reads histories, and DCN-V2
with pooled sequences, is exported with random weights and scored by the independent reader, 10
passes with each of 1, 2 and 4 threads of onnxruntime. All passes must agree bit by bit, and with
the model in torch to 1e-5 in probability. An operator that adds to one row from several threads
loses updates now and then, in other rows each time: only many long histories show it.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch

from benchmarks import harness
from benchmarks.generated import HISTORIES, PAIR, lists_of, write_history_dataset
from benchmarks.tables import table
from recsys.config.run import RunConfig
from recsys.distributed.context import Ranks
from recsys.export.checks.trained_model import RunReference
from recsys.export.write import export_run
from recsys.schema import load_schema
from recsys.serving.encoded_rows import read_encoded
from recsys.serving.reader import ExportReader
from recsys.serving.table_forms.base import PROBABILITY_TOLERANCE
from recsys.training.run_folder.trained import TrainedRun, build_model

ITEMS, CATEGORIES, LONGEST = 20_000, 20, 200
WIDTH, TABLE_ROWS = 4, 8192
TWO_STAGE = {"pairs": [PAIR], "hidden_dims": [32], "top_k": 20, "position_dim": 4}
FULL_TABLE = {"method": "full_table", "embedding_dim": WIDTH}
MODELS = {
    "mean_pooling": {"pairs": [PAIR], "hidden_dims": [32]},
    "din": {"pairs": [PAIR], "hidden_dims": [32], "attention_hidden_dims": [8]},
    "twin": TWO_STAGE,
    "sim_hard": {**TWO_STAGE, "category": "category"},
    "dare": TWO_STAGE,
    "dcn_v2": {"num_cross_layers": 2, "hidden_dims": [32]},
}


class Stress(NamedTuple):
    """Result of many passes over the same rows.

    variants: different results (bits) among all passes. difference: largest to the model's
    probability. seconds: of a pass, by number of threads, the median.
    """

    rows: int
    behaviors: int
    passes: int
    variants: int
    difference: float
    seconds: dict[int, float]

    @property
    def is_right(self) -> bool:
        return self.variants == 1 and self.difference <= PROBABILITY_TOLERANCE


def write_rows(folder: Path, rows: int, longest: int = LONGEST) -> Path:
    """A dataset whose test split has `rows` rows; a sixteenth of the histories are the longest."""
    rng = np.random.default_rng(0)
    cardinalities = {"item": ITEMS, "category": CATEGORIES}
    sizes = [min(TABLE_ROWS, rows - start) for start in range(0, rows, TABLE_ROWS)]
    tables = (rows_of(rng, size, longest) for size in sizes)
    return write_history_dataset(folder, cardinalities, longest, {"test": tables})


def rows_of(rng: np.random.Generator, rows: int, longest: int) -> pa.Table:
    lengths = rng.integers(0, longest + 1, rows)
    lengths[::16] = longest
    found = rng.integers(0, ITEMS, lengths.sum())
    items = rng.integers(0, ITEMS, rows)
    return pa.table(
        {
            "item": items.astype(np.int32),
            "category": (items % CATEGORIES).astype(np.int32),
            "item_history": lists_of(found, lengths),
            "category_history": lists_of(found % CATEGORIES, lengths),
            "label": rng.integers(0, 2, rows).astype(np.int8),
        }
    )


def random_run(name: str, dataset: Path, folder: Path) -> TrainedRun:
    """An untrained model: random weights reveal errors as well as trained ones."""
    content = {
        "data": {"path": dataset, "global_batch_size": 64},
        "model": {"name": name, **MODELS[name]},
        "embeddings": {
            "default": FULL_TABLE,
            "features": {h: {"shares_table_with": target} for h, target in HISTORIES.items()},
            **({"roles": {"search": {"default": FULL_TABLE}}} if name == "dare" else {}),
        },
        "train": {
            "epochs": 1,
            "device": "cpu",
            "dense_optimizer": {"learning_rate": 0.1},
            "embedding_optimizer": {"name": "rowwise_adagrad", "learning_rate": 0.1},
        },
    }
    config, schema = RunConfig.model_validate(content), load_schema(dataset)
    torch.manual_seed(0)
    model = build_model(config, schema).eval()
    with torch.no_grad():
        for table in model.embeddings.store.weights().values():
            table.normal_()
        for parameter in model.network.parameters():
            parameter.normal_(0, 0.2)
    device = next(iter(model.embeddings.store.weights().values())).device
    return TrainedRun(folder / "run", config, schema, dataset, model, Ranks(device))


def stress(trained: TrainedRun, export: Path, threads: Sequence[int], passes: int) -> Stress:
    """Scores the dataset's test rows `passes` times with each number of threads."""
    readers = {number: ExportReader(export, threads=number) for number in threads}
    reference = RunReference(trained.model, trained.schema)
    chunks = list(read_encoded(trained.dataset_dir / "test", readers[threads[0]].manifest))
    expected = np.concatenate([reference.logits(chunk) for chunk in chunks])
    found, seconds = [], {}
    for number, reader in readers.items():
        times = []
        for _ in range(passes):
            start = time.perf_counter()
            found.append(np.concatenate([reader.score(chunk).logits for chunk in chunks]))
            times.append(time.perf_counter() - start)
        seconds[number] = sorted(times)[len(times) // 2]
    worst = max(np.abs(sigmoid(logits) - sigmoid(expected)).max() for logits in found)
    return Stress(
        rows=len(expected),
        behaviors=sum(int(c["item_history"].list.len().sum()) for c in chunks),
        passes=len(found),
        variants=len({logits.tobytes() for logits in found}),
        difference=float(worst),
        seconds=seconds,
    )


def sigmoid(logits: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return 1.0 / (1.0 + np.exp(-logits.astype(np.float64)))


def to_markdown(results: dict[str, Stress], threads: Sequence[int]) -> str:
    heads = ["model", "rows", "behaviors", "passes", "different results", "largest difference"]
    rows = [
        [
            name,
            f"{found.rows:,}",
            f"{found.behaviors:,}",
            found.passes,
            "none" if found.variants == 1 else found.variants,
            f"{found.difference:.1e}",
            *(f"{found.seconds[number]:.1f}" for number in threads),
        ]
        for name, found in results.items()
    ]
    text = table([*heads, *(f"s a pass, {number} threads" for number in threads)], rows)
    head = "Logits of all passes compared bit by bit; the difference is to the model's probability."
    return f"{head}\n\n{text}"


def measure(names: Sequence[str], arguments: argparse.Namespace) -> Iterator[tuple[str, Stress]]:
    with tempfile.TemporaryDirectory() as folder:
        dataset = write_rows(Path(folder) / "dataset", arguments.rows)
        for name in names:
            trained = random_run(name, dataset, Path(folder))
            export = export_run(trained, Path(folder) / f"export_{name}")
            yield name, stress(trained, export, arguments.threads, arguments.passes)


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--passes", type=int, default=10)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    arguments = parser.parse_args()
    results = {}
    for name, found in measure(arguments.models, arguments):
        results[name] = found
        print(f"{name}: {found}", flush=True)
    facts = {name: found._asdict() for name, found in results.items()}
    harness.report(arguments, facts, to_markdown(results, arguments.threads))
    sys.exit(not all(found.is_right for found in results.values()))


if __name__ == "__main__":
    main()
