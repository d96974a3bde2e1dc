"""Small prepared data sets for tests, written straight from numpy."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys.schema import (
    SCHEMA_FILE,
    DataFile,
    Feature,
    Log,
    Schema,
    Split,
    Standardize,
    VocabularyEncoding,
)

ROWS = {"train": 600, "valid": 200, "test": 200}
CARDINALITIES = {"color": 5, "shop": 20, "item": 80}
MAX_LENGTH = 5


def write_dataset(
    folder: Path,
    features: Sequence[Feature],
    splits: Mapping[str, Sequence[pa.Table]],
    row_group_rows: int,
    group: str | None = None,
) -> Schema:
    """Writes each table as a file of its split, then schema.json."""
    schema = Schema(
        name=folder.name,
        features=tuple(features),
        group=group,
        splits={
            name: Split(
                rows=sum(len(table) for table in tables),
                positives=sum(table["label"].to_pylist().count(1) for table in tables),
                files=tuple(
                    write_file(folder, f"{name}/part-{i:05d}.parquet", table, row_group_rows)
                    for i, table in enumerate(tables)
                ),
            )
            for name, tables in splits.items()
        },
    )
    (folder / SCHEMA_FILE).write_text(schema.model_dump_json())
    return schema


def write_file(folder: Path, path: str, table: pa.Table, row_group_rows: int) -> DataFile:
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(
        table,
        target,
        row_group_size=row_group_rows,
        compression="none",
        write_page_checksum=True,
    )
    checksum = hashlib.sha256(target.read_bytes()).hexdigest()
    return DataFile(path=path, rows=len(table), sha256=checksum)


def write_tiny_dataset(folder: Path, split_rows: Mapping[str, int] = ROWS) -> Schema:
    """1,000 rows; the label depends on `color`, on `price`, and on `item` being in `history`."""
    rng = np.random.default_rng(0)
    tables = {split: tiny_table(rng, rows) for split, rows in split_rows.items()}
    for name, cardinality in CARDINALITIES.items():
        write_vocabulary(folder, name, cardinality, tables["train"][name].to_numpy())
    halves = {
        split: [table.slice(0, len(table) // 2), table.slice(len(table) // 2)]
        for split, table in tables.items()
    }
    return write_dataset(folder, tiny_features(), halves, row_group_rows=64, group="user")


def tiny_features() -> list[Feature]:
    def ids(name: str, kind: str, vocabulary: str, **fields) -> Feature:
        return Feature(
            name=name,
            kind=kind,
            column=name,
            encoding=VocabularyEncoding(file=f"vocabularies/{vocabulary}.parquet"),
            cardinality=CARDINALITIES[vocabulary],
            **fields,
        )

    return [
        Feature(
            name="price", kind="numerical", column="price", transform=Standardize(mean=3.0, std=2.0)
        ),
        Feature(name="age", kind="numerical", column="age", transform=Log()),
        ids("color", "categorical", "color"),
        ids("shop", "categorical", "shop"),
        ids("history", "sequence", "item", max_length=MAX_LENGTH, separator="|"),
        ids("item", "categorical", "item"),
    ]


def tiny_table(rng: np.random.Generator, rows: int) -> pa.Table:
    color, shop, item = (
        np.minimum(rng.geometric(3 / cardinality, rows) - 1, cardinality - 1).astype(np.int32)
        for cardinality in CARDINALITIES.values()
    )
    lengths = rng.integers(0, MAX_LENGTH + 1, rows)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    history = rng.integers(1, CARDINALITIES["item"], offsets[-1], dtype=np.int32)
    seen = (rng.random(rows) < 0.5) & (lengths > 0)
    history[offsets[:-1][seen]] = item[seen]
    price, age = rng.standard_normal((2, rows)).astype(np.float32)
    logits = 2.0 * (color % 2) + 1.5 * price + 2.0 * seen - 2.5
    label = rng.random(rows) < 1 / (1 + np.exp(-logits))
    return pa.table(
        {
            "price": price,
            "age": np.abs(age),
            "color": color,
            "shop": shop,
            "history": pa.ListArray.from_arrays(offsets, history),
            "item": item,
            "label": label.astype(np.int8),
            "user": rng.integers(0, 30, rows),
        }
    )


def write_vocabulary(folder: Path, name: str, cardinality: int, train_ids: np.ndarray) -> None:
    counts = np.bincount(train_ids, minlength=cardinality)
    ids = np.arange(1, cardinality, dtype=np.int32)
    values = [f"{name}-{i}" for i in ids]
    (folder / "vocabularies").mkdir(parents=True, exist_ok=True)
    pq.write_table(
        pa.table({"value": values, "id": ids, "count": counts[1:]}),
        folder / "vocabularies" / f"{name}.parquet",
    )
