"""Memory, counted once: bytes of tables and of their optimiser's state, by feature."""

from recsys.embeddings.collection import FeatureEmbeddings
from recsys.embeddings.optimizers import STATE_FLOATS_PER_ROW

FLOAT_BYTES = 4


def count_bytes(embeddings: FeatureEmbeddings, optimizer: str) -> dict[str, object]:
    """The `embeddings` part of a report.

    serve_bytes: tables as they are. train_bytes: tables and optimiser state. A shared table is
    charged to the first feature that reads it.
    """
    features: dict[str, dict[str, object]] = {}
    charged: set[str] = set()
    totals = {"train_bytes": 0, "serve_bytes": 0}
    for feature in embeddings.features:
        method = embeddings.methods[feature.name]
        tables = [table for table in method.tables() if table.name not in charged]
        charged.update(table.name for table in tables)
        serve = sum(table.num_rows * table.dim for table in tables) * FLOAT_BYTES
        state = sum(t.num_rows * STATE_FLOATS_PER_ROW[optimizer](t.dim) for t in tables)
        train = serve + state * FLOAT_BYTES
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
