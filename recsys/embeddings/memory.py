"""Memory, counted once: bytes of tables and of their optimiser's state, by feature."""

from recsys.embeddings.collection import FeatureEmbeddings
from recsys.embeddings.optimizers import STATE_FLOATS_PER_ROW
from recsys.embeddings.table_store import padded_dim

FLOAT_BYTES = 4


def count_bytes(embeddings: FeatureEmbeddings, optimizer: str) -> dict[str, object]:
    """The `embeddings` part of a report.

    serve_bytes: tables as exported. train_bytes: rows padded as the kernels want them, and their
    optimiser's state. A shared table is charged to the first feature that reads it.
    """
    features: dict[str, dict[str, object]] = {}
    charged: set[str] = set()
    totals = {"train_bytes": 0, "serve_bytes": 0}
    for feature in embeddings.features:
        method = embeddings.methods[feature.name]
        tables = [table for table in method.tables() if table.name not in charged]
        charged.update(table.name for table in tables)
        serve = sum(table.num_rows * table.dim for table in tables) * FLOAT_BYTES
        train = sum(t.num_rows * _train_floats(t.dim, optimizer) for t in tables) * FLOAT_BYTES
        totals["train_bytes"] += train
        totals["serve_bytes"] += serve
        features[feature.name] = {
            "method": method.name,
            "cardinality": feature.num_ids,
            "dim": method.output_dim,
            "train_bytes": train,
            "serve_bytes": serve,
        }
    return {**totals, "features": features}


def _train_floats(dim: int, optimizer: str) -> int:
    """Floats of a row while it trains: itself and its optimiser's state."""
    return padded_dim(dim) + STATE_FLOATS_PER_ROW[optimizer](padded_dim(dim))
