"""Prepared data sets of generated rows with histories, written as `prepare` writes them."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys.io.checksums import sha256_of
from recsys.schema import SCHEMA_FILE, DataFile, Feature, Schema, Split, VocabularyEncoding

# history feature → the target feature with its vocabulary
HISTORIES = {"item_history": "item", "category_history": "category"}
PAIR = {"target": list(HISTORIES.values()), "history": list(HISTORIES)}
ROWS_PER_GROUP = 16_384


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


def write_split(folder: Path, split: str, tables: Iterable[pa.Table]) -> Split:
    """All tables in one file, as they come."""
    path = folder / split / "part-00000.parquet"
    path.parent.mkdir(parents=True)
    rows = positives = 0
    writer: pq.ParquetWriter | None = None
    for table in tables:
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table, row_group_size=ROWS_PER_GROUP)
        rows += len(table)
        positives += int(table["label"].to_numpy().sum())
    assert writer is not None
    writer.close()
    file = DataFile(path=str(path.relative_to(folder)), rows=rows, sha256=sha256_of(path))
    return Split(rows=rows, positives=positives, files=(file,))


def write_vocabularies(folder: Path, cardinalities: Mapping[str, int]) -> None:
    """Every id once, named by its number: what is generated has no raw values."""
    (folder / "vocabularies").mkdir(parents=True)
    for name, cardinality in cardinalities.items():
        ids = np.arange(1, cardinality, dtype=np.int32)
        table = pa.table({"value": ids.astype(str), "id": ids, "count": np.ones(len(ids), int)})
        pq.write_table(table, folder / "vocabularies" / f"{name}.parquet")


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
    written = {split: write_split(folder, split, tables) for split, tables in splits.items()}
    schema = Schema(name=folder.name, features=tuple(features), splits=written)
    (folder / SCHEMA_FILE).write_text(json.dumps(schema.model_dump(mode="json")))
    return folder
