"""Datasets of generated rows, written as `prepare` writes them: Criteo's shape, and histories."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys.io.paths import sha256_of
from recsys.schema import SCHEMA_FILE, DataFile, Feature, Schema, Split, VocabularyEncoding

# Values of C1 … C26 in the full Criteo Kaggle rows; capped so that their sum is what is asked for.
CRITEO_CARDINALITIES = (
    1460, 583, 10131227, 2202608, 305, 24, 12517, 633, 3, 93145, 5683, 8351593, 3194,
    27, 14992, 5461306, 10, 5652, 2173, 4, 7046547, 18, 15, 286181, 105, 142572,
)  # fmt: skip
NUM_NUMERICAL = 13
# history feature → the target feature with its vocabulary
HISTORIES = {"item_history": "item", "category_history": "category"}
PAIR = {"target": list(HISTORIES.values()), "history": list(HISTORIES)}
ROWS_PER_GROUP = 16_384


def capped_cardinalities(total: int) -> list[int]:
    """Criteo's, with the largest cut to one cap so that their sum is `total` at most."""
    low, high = 0, max(CRITEO_CARDINALITIES)
    while low < high:
        middle = (low + high + 1) // 2
        fits = sum(min(c, middle) for c in CRITEO_CARDINALITIES) <= total
        low, high = (middle, high) if fits else (low, middle - 1)
    return [min(c, low) for c in CRITEO_CARDINALITIES]


def draw_rows(rows: int, cardinalities: list[int]) -> pa.Table:
    """Log-uniform ids (popularity falls as 1/rank), normal numericals, a quarter of clicks."""
    rng = np.random.default_rng(7)
    columns: dict[str, np.ndarray] = {}
    for i in range(NUM_NUMERICAL):
        columns[f"I{i + 1}"] = rng.standard_normal(rows, np.float32)
    for i, cardinality in enumerate(cardinalities):
        ids = np.exp(rng.random(rows) * np.log(cardinality + 1)) - 1
        columns[f"C{i + 1}"] = np.minimum(ids.astype(np.int32), cardinality - 1)
    columns["label"] = (rng.random(rows) < 0.25).astype(np.int8)
    drawn = pa.table(columns)
    sizes = {f"C{i + 1}": c for i, c in enumerate(cardinalities)}
    return drawn.replace_schema_metadata({"cardinalities": json.dumps(sizes)})


def criteo_features(cardinalities: Sequence[int]) -> list[Feature]:
    """I1 … I13 and C1 … C26."""
    numericals = [f"I{i + 1}" for i in range(NUM_NUMERICAL)]
    return [
        *(Feature(name=name, kind="numerical", column=name) for name in numericals),
        *(
            Feature(name=f"C{i}", kind="categorical", column=f"C{i}", cardinality=cardinality)
            for i, cardinality in enumerate(cardinalities, start=1)
        ),
    ]


def write_criteo_dataset(folder: Path, total_ids: int, rows: int, valid_rows: int) -> Path:
    """Train and valid rows of Criteo's shape; FuxiCTR reads the train file as it is."""
    sizes = capped_cardinalities(total_ids)
    splits = {"train": [draw_rows(rows, sizes)], "valid": [draw_rows(valid_rows, sizes)]}
    return write_dataset(folder, criteo_features(sizes), splits, rows_per_group=65_536)


def feature_of(name: str, cardinality: int, max_length: int | None = None) -> Feature:
    vocabulary = HISTORIES.get(name, name)
    return Feature(
        name=name,
        kind="sequence" if max_length else "categorical",
        column=name,
        encoding=VocabularyEncoding(file=f"vocabularies/{vocabulary}.parquet"),
        cardinality=cardinality,
        max_length=max_length,
    )


def lists_of(ids: np.ndarray, lengths: np.ndarray) -> pa.ListArray:
    """Behaviors end to end and how many each row has."""
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.ListArray.from_arrays(offsets, ids.astype(np.int32))


def write_split(folder: Path, split: str, tables: Iterable[pa.Table], rows_per_group: int) -> Split:
    """All tables in one file, one after the other."""
    path = folder / split / "part-00000.parquet"
    path.parent.mkdir(parents=True)
    rows = positives = 0
    writer: pq.ParquetWriter | None = None
    for table in tables:
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table, row_group_size=rows_per_group)
        rows += len(table)
        positives += int(table["label"].to_numpy().sum())
    assert writer is not None
    writer.close()
    file = DataFile(path=str(path.relative_to(folder)), rows=rows, sha256=sha256_of(path))
    return Split(rows=rows, positives=positives, files=(file,))


def write_vocabularies(folder: Path, cardinalities: Mapping[str, int]) -> None:
    """Every id once, named by its number: generated rows have no raw values."""
    (folder / "vocabularies").mkdir(parents=True)
    for name, cardinality in cardinalities.items():
        ids = np.arange(1, cardinality, dtype=np.int32)
        table = pa.table({"value": ids.astype(str), "id": ids, "count": np.ones(len(ids), int)})
        pq.write_table(table, folder / "vocabularies" / f"{name}.parquet")


def write_dataset(
    folder: Path,
    features: Sequence[Feature],
    splits: Mapping[str, Iterable[pa.Table]],
    rows_per_group: int = ROWS_PER_GROUP,
) -> Path:
    """Every table has the features' columns and a column `label`."""
    written = {
        split: write_split(folder, split, tables, rows_per_group)
        for split, tables in splits.items()
    }
    schema = Schema(name=folder.name, features=tuple(features), splits=written)
    (folder / SCHEMA_FILE).write_text(json.dumps(schema.model_dump(mode="json")))
    return folder


def write_history_dataset(
    folder: Path,
    cardinalities: Mapping[str, int],
    max_length: int,
    splits: Mapping[str, Iterable[pa.Table]],
) -> Path:
    """`cardinalities` by categorical feature, id 0 included; every table has a column `label`."""
    write_vocabularies(folder, cardinalities)
    features = [feature_of(name, cardinality) for name, cardinality in cardinalities.items()]
    features += [feature_of(h, cardinalities[t], max_length) for h, t in HISTORIES.items()]
    return write_dataset(folder, features, splits)
