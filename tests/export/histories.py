"""A data set with histories, and a run and an export of each model of histories on it."""

from functools import cache

import numpy as np
import polars as pl
import pyarrow as pa

from recsys.config.run import RunConfig
from recsys.export.write import export_run
from recsys.schema import Feature, HashEncoding
from tests.tiny_dataset import write_dataset

ROWS, LONGEST = 60, 6
ITEMS, CATEGORIES, TAGS, USERS = 50, 7, 9, 20
BOTH = {"target": ["item", "category"], "history": ["item_history", "category_history"]}
ITEM = {"target": ["item"], "history": ["item_history"]}
FRIENDS = {"target": ["user"], "history": ["friends"]}
FULL, DIM = {"method": "full_table", "embedding_dim": 4}, 4
SHARED = {"item_history": "item", "category_history": "category", "friends": "user"}
FEATURES = {name: {"shares_table_with": owner} for name, owner in SHARED.items()}
FEATURES["tags"] = {"pooling": "sum"}
PLAIN = {"default": FULL, "features": FEATURES}
SMALL = {"hidden_dims": [16]}
TWO_STAGE = {**SMALL, "top_k": 3, "pairs": [BOTH], "position_dim": 3}
REMAINDERS = {"kind": "quotient_remainder", "num_remainders": 8}
COMPRESSED = {
    **PLAIN,
    "features": FEATURES | {"category": FULL | {"embedding_dim": 2}},
    "roles": {
        "search": {
            "default": {"method": "unified", "embedding_dim": 2, "num_rows": 40, "num_chunks": 2},
            "features": {
                "item": {"method": "hashed", "embedding_dim": 3, "num_buckets": 9, "num_hashes": 2},
                "user": {"method": "compositional", "embedding_dim": 2, "partitions": REMAINDERS},
            },
        }
    },
}
MODELS = {
    "mean_pooling": {"model": {"name": "mean_pooling", **SMALL, "pairs": [BOTH]}},
    "din": {"model": {"name": "din", **SMALL, "pairs": [ITEM, BOTH], "softmax": True}},
    "twin": {"model": {"name": "twin", **TWO_STAGE}},
    "sim_hard": {"model": {"name": "sim_hard", **TWO_STAGE, "category": "category"}},
    "dare": {
        "model": {
            "name": "dare",
            **TWO_STAGE,
            "pairs": [BOTH, FRIENDS],
            "attention_position_dim": 2,
        },
        "embeddings": COMPRESSED,
    },
}


def write_rows(folder):
    def ids(name, cardinality, **fields):
        kind = "sequence" if "max_length" in fields else "categorical"
        return Feature(
            name=name,
            kind=kind,
            column=name,
            encoding=HashEncoding(),
            cardinality=cardinality,
            **fields,
        )

    features = [
        ids("item_history", ITEMS, max_length=LONGEST),
        ids("user", USERS),
        ids("friends", USERS, max_length=3),
        ids("item", ITEMS),
        ids("tags", TAGS, max_length=4),
        ids("category", CATEGORIES),
        ids("category_history", CATEGORIES, max_length=LONGEST),
        Feature(name="price", kind="numerical", column="price"),
    ]
    rng = np.random.default_rng(4)
    splits = {split: [some_rows(rng)] for split in ("train", "valid", "test")}
    folder.mkdir()
    write_dataset(folder, features, splits, row_group_rows=32)


def some_rows(rng):
    def bags(lengths, items):
        return pa.ListArray.from_arrays(np.cumsum([0, *lengths], dtype=np.int32), items)

    lengths, counts, friends = (rng.integers(0, most + 1, ROWS) for most in (LONGEST, 4, 3))
    item, history = (rng.integers(0, ITEMS, n, dtype=np.int32) for n in (ROWS, lengths.sum()))
    return pa.table(
        {
            "item_history": bags(lengths, history),
            "user": rng.integers(0, USERS, ROWS, dtype=np.int32),
            "friends": bags(friends, rng.integers(0, USERS, friends.sum(), dtype=np.int32)),
            "item": item,
            "tags": bags(counts, rng.integers(0, TAGS, counts.sum(), dtype=np.int32)),
            "category": item % CATEGORIES,
            "category_history": bags(lengths, history % CATEGORIES),
            "price": rng.normal(size=ROWS).astype(np.float32),
            "label": rng.integers(0, 2, ROWS).astype(np.int8),
        }
    )


def make_place(root, write_run):
    """name of a model → its run and its export, made once."""
    write_rows(root / "dataset")

    @cache
    def build(model):
        content = {
            "data": {"path": root / "dataset", "global_batch_size": 64},
            "embeddings": PLAIN,
            "train": {
                "epochs": 1,
                "dense_optimizer": {"learning_rate": 0.1},
                "embedding_optimizer": {"name": "rowwise_adagrad", "learning_rate": 0.1},
                "device": "cpu",
            },
            **MODELS[model],
        }
        trained = write_run(root / f"run-{model}", RunConfig.model_validate(content))
        return trained, export_run(trained, root / f"export-{model}")

    return build


def rows_of(trained):
    return pl.read_parquet(trained.dataset_dir / "test")
