"""What do mixed embedding methods cost beside full tables that read as many bytes?

    python -m benchmarks.speed.methods

26 categorical features of Criteo's shape (2 M ids, 4096 rows a batch), one thread. `rows`: ids to
row numbers, for each method over all features. `step`: lookup, combine, backward and update of
a mix of all methods, beside full tables whose vectors have as many floats as the mix looks up; the
DCN-V2 network over the mix's vectors is timed once and added to both. Alternating, medians.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial

import torch

from benchmarks import harness
from benchmarks.generated import capped_cardinalities, criteo_features
from benchmarks.speed.training_contenders import MODELS
from benchmarks.tables import table
from recsys.compat.malloc import keep_freed_memory
from recsys.config.base import validate
from recsys.data.jagged_ids import JaggedIds
from recsys.embeddings.build import build_embeddings
from recsys.embeddings.collection import FeatureEmbeddings
from recsys.embeddings.config import EmbeddingsConfig
from recsys.embeddings.optimizers import RowwiseAdagradConfig
from recsys.models.dcn_v2 import DCNv2Config
from recsys.models.network import build_network
from recsys.schema import Schema

BATCH_SIZE, DIM, TOTAL_IDS = 4096, 16, 2_000_000
SMALL = 200
METHODS: dict[str, dict[str, object]] = {
    "full_table": {"method": "full_table"},
    "hashed, 2 hashes": {"method": "hashed", "total_rows": 200_000, "num_hashes": 2},
    "unified, 2 chunks": {
        "method": "unified",
        "num_rows": 400_000,
        "num_chunks": 2,
        "exact_below": SMALL,
    },
    "quotient_remainder, multiply": {
        "method": "compositional",
        "partitions": {"kind": "quotient_remainder", "num_collisions": 4},
        "full_below": SMALL,
    },
    "mixed_radix of 3, add": {
        "method": "compositional",
        "partitions": {"kind": "mixed_radix", "k": 3},
        "operation": "add",
        "full_below": SMALL,
    },
    "mixed_dimension": {"method": "mixed_dimension", "temperature": 0.2},
}
# not in the mix
MOST_HASHES = {"unified, 4 chunks": {"method": "unified", "num_rows": 400_000, "num_chunks": 4}}


def schema() -> Schema:
    features = criteo_features(capped_cardinalities(TOTAL_IDS))
    categorical = tuple(f for f in features if f.kind == "categorical")
    return Schema(name="generated", features=categorical, splits={})


def build(content: Mapping[str, object]) -> FeatureEmbeddings:
    config = validate(EmbeddingsConfig, dict(content), "benchmark")
    optimizer = RowwiseAdagradConfig(learning_rate=0.01)
    embeddings = build_embeddings(config, schema(), optimizer, torch.device("cpu"))
    embeddings.store.initialize(seed=0)
    return embeddings


def draw(batches: int) -> list[JaggedIds]:
    """Log-uniform ids, as `speed.training` draws them."""
    generator = torch.Generator().manual_seed(7)
    sizes = capped_cardinalities(TOTAL_IDS)
    keys = [f"C{i + 1}" for i in range(len(sizes))]
    drawn = []
    for _ in range(batches):
        uniform = torch.rand(len(sizes), BATCH_SIZE, generator=generator)
        limits = torch.tensor(sizes)[:, None]
        ids = (torch.exp(uniform * torch.log(limits + 1.0)) - 1).int()
        values = torch.minimum(ids, limits.int() - 1).reshape(-1)
        lengths = torch.ones(len(values), dtype=torch.int32)
        drawn.append(JaggedIds(keys=keys, values=values, lengths=lengths))
    return drawn


def default(method: Mapping[str, object]) -> dict[str, object]:
    return {"default": {"embedding_dim": DIM, **method}}


def mixed() -> dict[str, object]:
    """The methods in turn over the features with many ids; the small ones stay full."""
    large = [f.name for f in schema().sparse if f.num_ids > 10_000]
    others = [name for name in METHODS if name != "full_table"]
    features = {}
    for i, feature in enumerate(large):
        method = dict(METHODS[others[i % len(others)]])
        if method["method"] == "hashed":
            method = {"method": "hashed", "num_buckets": 5_000, "num_hashes": 2}
        features[feature] = {"embedding_dim": DIM, **method}
    return {**default(METHODS["full_table"]), "features": features}


def median_ms(run: Callable[[int], None], repeats: int) -> float:
    times = []
    for number in range(repeats + 3):
        since = time.perf_counter()
        run(number)
        times.append(time.perf_counter() - since)
    return statistics.median(times[3:]) * 1e3


def rows_ms(embeddings: FeatureEmbeddings, batches: list[JaggedIds]) -> float:
    return median_ms(lambda i: embeddings.physical_ids(batches[i % len(batches)]), 30)


def step_ms(embeddings: FeatureEmbeddings, batches: list[JaggedIds], steps: int) -> float:
    physical = [embeddings.physical_ids(batch) for batch in batches]
    parameters = list(embeddings.method_modules.parameters())
    optimizer = torch.optim.Adam(parameters) if parameters else None

    def step(number: int) -> None:
        vectors = embeddings(physical[number % len(physical)])[0].fields
        embeddings.zero_grad()
        vectors.backward(torch.full_like(vectors, 1e-4))
        embeddings.store.step()
        if optimizer is not None:
            optimizer.step()

    return median_ms(step, steps)


def network_ms(embeddings: FeatureEmbeddings, steps: int) -> float:
    model = validate(DCNv2Config, dict(MODELS["dcn_v2"]), "benchmark")
    config = validate(EmbeddingsConfig, default(METHODS["full_table"]), "benchmark")
    network = build_network(model, config, schema(), embeddings.output_dims)
    optimizer = torch.optim.Adam(network.parameters())
    width = sum(embeddings.output_dims.values())
    vectors = torch.randn(BATCH_SIZE, width, requires_grad=True)
    dense = torch.empty(BATCH_SIZE, 0)

    def step(_: int) -> None:
        optimizer.zero_grad()
        network.score(vectors, dense).mean().backward()
        optimizer.step()

    return median_ms(step, steps)


def looked_up_floats(embeddings: FeatureEmbeddings) -> int:
    dims = {table.name: table.dim for table in embeddings.store.tables}
    return sum(dims[look.table] for look in embeddings.store.groups["pooled"].lookups)


def main() -> None:
    parser = harness.parser(__doc__, rounds=5)
    parser.add_argument("--steps", type=int, default=15)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    batches = draw(4)
    of_all = {**METHODS, **MOST_HASHES}
    rows = {name: rows_ms(build(default(m)), batches) for name, m in of_all.items()}
    mix = build(mixed())
    floats = looked_up_floats(mix)
    dim = -(-floats // (4 * len(schema().sparse))) * 4
    full = build({"default": {"method": "full_table", "embedding_dim": dim}})
    network = network_ms(mix, arguments.steps)
    built = {"mixed": mix, "full": full}
    found = harness.alternate(
        arguments.rounds,
        {name: partial(step_ms, each, batches, arguments.steps) for name, each in built.items()},
    )
    step = {name: statistics.median(values) for name, values in found.items()}
    results = {
        "rows_milliseconds": rows,
        "embedding_step_milliseconds": step,
        "network_step_milliseconds": network,
        "looked_up_floats": {"mixed": floats, "full": looked_up_floats(full)},
        "embedding_ratio": step["mixed"] / step["full"],
        "step_ratio": (step["mixed"] + network) / (step["full"] + network),
        "runs": found,
    }
    text = table(
        ["ids → rows, 4096 × 26 ids, one thread", "ms"],
        [(name, f"{value:.2f}") for name, value in rows.items()],
    )
    text += (
        f"\n\nA step of mixed methods ({floats} floats looked up a sample) takes "
        f"{results['step_ratio']:.2f} × one of full tables ({looked_up_floats(full)} floats): "
        f"embeddings {step['mixed']:.1f} and {step['full']:.1f} ms, network {network:.1f} ms."
    )
    harness.report(arguments, results, text)


if __name__ == "__main__":
    main()
