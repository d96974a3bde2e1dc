"""What an epoch's lookups are charged as L2, beside what the definition says; weights are fixed.

`python -m benchmarks.exactness.penalty` prints the ratio for every store, method and kind of
feature.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import torch

from recsys.config.base import validate
from recsys.config.run import RunConfig
from recsys.data.jagged_ids import JaggedIds
from recsys.distributed.build import build_on_ranks
from recsys.distributed.context import Ranks, join_ranks
from recsys.embeddings.collection import FeatureEmbeddings
from recsys.schema import SCHEMA_FILE, load_schema
from recsys.training.loaders import build_loader
from recsys.training.row_regularization import add_row_l2
from tests.embeddings.examples import EXAMPLES
from tests.ranks import run_on_ranks
from tests.tiny_dataset import write_tiny_dataset
from tests.training.steps import Shard, whole_tables

ROWS, BATCH_ROWS, LAMBDA = 200, 48, 0.3  # the last of five batches has 8 rows
DIM = 8
PAIRS = [{"target": ["item"], "history": ["history"]}]
TAIL = {"pairs": PAIRS, "hidden_dims": [4]}
KINDS = {
    "single": {"model": {"name": "dcn_v2", "hidden_dims": [4]}},
    "pooled by mean": {"model": {"name": "dcn_v2", "hidden_dims": [4]}},
    "pooled by sum": {"model": {"name": "dcn_v2", "hidden_dims": [4]}},
    "pooled, table shared": {"model": {"name": "dcn_v2", "hidden_dims": [4]}},
    "history": {"model": {"name": "mean_pooling", **TAIL}},
    "history with attention's": {"model": {"name": "dare", **TAIL, "auxiliary_weight": 0}},
}
METHODS = {
    "hashed once": {"method": "hashed", "num_buckets": 20},
    "compositional concat": {
        "method": "compositional",
        "operation": "concat",
        "partitions": {"kind": "mixed_radix", "k": 3},
    },
    "mixed_dimension by rule": {"method": "mixed_dimension", "temperature": 0.5},
    **{method.method: method.model_dump(mode="json") for method in EXAMPLES},
}
L2 = {"fused": "l2", "plain": "l2", "sharded": "l2", "fused, once": "mini_batch_l2"}


class Epoch(NamedTuple):
    """Of one rank: what its lookups were charged, and the weights."""

    charged: float
    losses: list[float]
    shards: list[Shard]


def penalty_config(dataset: Path, store: str, method: str, kind: str) -> RunConfig:
    chosen = {**METHODS[method], "embedding_dim": DIM, "init": {"distribution": "normal", "std": 1}}
    full = {"method": "full_table", "embedding_dim": DIM}
    embeddings = {
        # one shared table for all features, or one each
        "default": chosen if method == "unified" else full,
        "features": {} if method == "unified" else {"item": chosen},
        "store": store if store == "plain" else "fused",
    }
    if kind == "pooled, table shared" or kind.startswith("history"):
        embeddings["features"]["history"] = {"shares_table_with": "item"}
    elif kind != "single" and method != "unified":
        embeddings["features"]["history"] = dict(chosen)
    if kind == "pooled by sum":
        embeddings["features"].setdefault("history", {})["pooling"] = "sum"
    if kind.endswith("attention's"):
        table = {"table": "attended"} if method == "unified" else {}
        embeddings["roles"] = {"search": {"default": {**chosen, **table}}}
    optimizer = {"name": "sgd", "learning_rate": 1.0, L2.get(store, "l2"): LAMBDA}
    content = {
        "data": {
            "path": str(dataset / ("single" if kind == "single" else "all")),
            "global_batch_size": BATCH_ROWS,
        },
        "embeddings": embeddings,
        "train": {
            "epochs": 1,
            "dense_optimizer": {"name": "sgd", "learning_rate": 1.0},
            "embedding_optimizer": optimizer,
        },
        **KINDS[kind],
    }
    return validate(RunConfig, content, f"{store}, {method}, {kind}")


def write_penalty_datasets(folder: Path) -> None:
    """The tiny data set, and the same without its sequence."""
    for name in ("all", "single"):
        write_tiny_dataset(folder / name, {"train": ROWS, "valid": 64, "test": 64})
    path = folder / "single" / SCHEMA_FILE
    schema = json.loads(path.read_text())
    schema["features"] = [f for f in schema["features"] if f["kind"] != "sequence"]
    path.write_text(json.dumps(schema))


def charged_on_ranks(configs: Mapping[str, RunConfig]) -> dict[str, Epoch]:
    with join_ranks(torch.device("cpu")) as ranks:
        return {name: _charged(config, ranks) for name, config in configs.items()}


def _charged(config: RunConfig, ranks: Ranks) -> Epoch:
    """This rank's part of the penalty of an epoch, as it counts in the loss of all ranks."""
    schema = load_schema(config.data.path)
    model, _, _ = build_on_ranks(config, schema, ranks)
    add_row_l2(model, config, schema, ranks)
    model.train()
    charged = 0.0
    for batch in build_loader(config, schema, "train", model, ranks, shuffle=True):
        _, penalty = model(batch)
        charged += float(penalty.detach().double()) * len(batch) / batch.global_rows
    shards = [
        Shard(s.table.name, s.first_row, s.first_column, s.weight.clone())
        for s in model.embeddings.store.shards()
    ]
    return Epoch(charged, [], shards)


def due_by_table(config: RunConfig, tables: Mapping[str, torch.Tensor]) -> float:
    """From the definition: every lookup of the epoch's rows, counted in Python."""
    schema = load_schema(config.data.path)
    with join_ranks(torch.device("cpu")) as ranks:
        model, _, _ = build_on_ranks(config.model_copy(), schema, ranks)
        loader = build_loader(config, schema, "train", model, ranks, shuffle=True)
        loader.transform = None
        batches = [list(_rows(model.embeddings, batch.sparse)) for batch in loader]
    lookups: dict[tuple[str, int], int] = {}
    batches_with: dict[tuple[str, int], int] = {}
    for rows in batches:
        for row in rows:
            lookups[row] = lookups.get(row, 0) + 1
        for row in set(rows):
            batches_with[row] = batches_with.get(row, 0) + 1
    norms = {(t, r): float(tables[t][r].double().square().sum()) for t, r in lookups}
    if config.train.embedding_optimizer.mini_batch_l2:
        return LAMBDA / 2 * sum(batches_with[r] / lookups[r] * norms[r] for r in norms)
    return LAMBDA / 2 * sum(norms.values()) * ROWS / BATCH_ROWS


def _rows(embeddings: FeatureEmbeddings, sparse: JaggedIds) -> Iterator[tuple[str, int]]:
    for key, method in embeddings.methods.items():
        ids = sparse[key.feature].values()
        for look, rows in zip(method.lookups, method.rows(ids), strict=True):
            yield from ((look.table, row) for row in rows.tolist())


def charged_by_due(store: str, kind: str, dataset: Path) -> dict[str, float]:
    """Charged ÷ due of an epoch, for every method."""
    configs = {name: penalty_config(dataset, store, name, kind) for name in METHODS}
    if store == "sharded":
        ranks = run_on_ranks(2, charged_on_ranks, configs)
    else:
        ranks = [charged_on_ranks(configs)]
    return {
        name: sum(rank[name].charged for rank in ranks)
        / due_by_table(config, whole_tables([rank[name] for rank in ranks]))
        for name, config in configs.items()
    }
