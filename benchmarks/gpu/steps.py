"""How many samples a second does a training step process, tables of 10 M to 200 M rows?

The step of `recsys train` without loader and Lightning: batches lie in page-locked memory and are
copied to the device at each step; forward, backward, fused update, Adam on the dense part. Ids are
log-uniform (popularity falls as 1/rank), numericals normal: 26 and 13 of them, dim 16.
"""

import itertools
from collections.abc import Callable, Iterator

import torch
from torch.nn import functional as F

from benchmarks.generated import CRITEO_CARDINALITIES, capped_cardinalities, criteo_features
from benchmarks.gpu.setting import Point, Setting, peak_memory_bytes
from benchmarks.speed.training_contenders import MODELS
from recsys.data.batch import Batch, Cursor
from recsys.data.jagged_ids import JaggedIds
from recsys.embeddings.build import build_embeddings
from recsys.embeddings.collection import FeatureEmbeddings
from recsys.embeddings.config import EmbeddingsConfig
from recsys.embeddings.methods.full_table import FullTableConfig
from recsys.embeddings.optimizers import (
    RowwiseAdagradConfig,
    SparseAdamConfig,
    TableOptimizerConfig,
)
from recsys.models.autoint import AutoIntConfig
from recsys.models.ctr_model import CTRModel
from recsys.models.dcn_v2 import DCNv2Config
from recsys.models.network import build_network
from recsys.schema import Schema

DIM, HELD_BATCHES = 16, 4
CONFIGS = {"dcn_v2": DCNv2Config, "autoint": AutoIntConfig}
STORES: dict[str, TableOptimizerConfig] = {
    "fused": RowwiseAdagradConfig(learning_rate=0.01),
    "plain": SparseAdamConfig(learning_rate=0.001),  # the plain one that leaves other rows alone
}
BATCHES = (8_192, 16_384, 32_768, 65_536)
# store, rows of all tables, precisions, batches: the most wanted first
PLAN = [
    ("fused", 10_000_000, ("fp32", "bf16", "tf32"), BATCHES),
    ("fused", 200_000_000, ("fp32", "bf16"), BATCHES),
    ("fused", 50_000_000, ("fp32",), BATCHES),
    ("plain", 10_000_000, ("fp32", "bf16"), (8_192, 65_536)),
]
SMALL_PLAN = [("fused", 10_000, ("fp32", "tf32"), (64,)), ("plain", 10_000, ("fp32",), (64,))]


def points(setting: Setting) -> Iterator[Point]:
    for store, rows, precisions, batch_sizes in SMALL_PLAN if setting.is_small else PLAN:
        what: Point = {"store": store, "rows": rows}
        built = setting.attempt(what, build_tables, store, rows, setting.device)
        embeddings = built.pop("embeddings", None)
        if embeddings is None:
            yield built
            continue
        for model, precision, batch_size in itertools.product(MODELS, precisions, batch_sizes):
            what |= {"model": model, "precision": precision, "batch_size": batch_size}
            yield setting.attempt(what, measure, setting, embeddings, what)
        del embeddings


def table_sizes(total: int) -> list[int]:
    """Criteo's 26 cardinalities, the largest cut or grown until they sum to about `total`."""
    known = sum(CRITEO_CARDINALITIES)
    if total <= known:
        return capped_cardinalities(total)
    large = sum(c for c in CRITEO_CARDINALITIES if c > 1_000_000)
    growth = (total - known) / large
    return [c + round(c * growth) if c > 1_000_000 else c for c in CRITEO_CARDINALITIES]


def schema_of(total_rows: int) -> Schema:
    features = criteo_features(table_sizes(total_rows))
    return Schema(name="generated", features=tuple(features), splits={})


def embeddings_config(store: str) -> EmbeddingsConfig:
    return EmbeddingsConfig(default=FullTableConfig(embedding_dim=DIM), store=store)


def build_tables(store: str, rows: int, device: torch.device) -> Point:
    """Filled on the device: drawing 200 M rows as a run does would take the time of the rest."""
    config, schema = embeddings_config(store), schema_of(rows)
    embeddings = build_embeddings(config, schema, STORES[store], device)
    for weight in embeddings.store.weights().values():
        weight.uniform_(-0.01, 0.01)
    return {"embeddings": embeddings}


def measure(setting: Setting, embeddings: FeatureEmbeddings, what: Point) -> Point:
    peak_memory_bytes(setting.device)
    step = training_step(setting, embeddings, what)
    milliseconds = setting.median_milliseconds(step)
    return {
        "step_milliseconds": round(milliseconds, 3),
        "samples_per_second": round(int(str(what["batch_size"])) / milliseconds * 1e3),
        "peak_memory_bytes": peak_memory_bytes(setting.device),
    }


def training_step(
    setting: Setting, embeddings: FeatureEmbeddings, what: Point
) -> Callable[[], None]:
    name, precision, device = str(what["model"]), what["precision"], setting.device
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    schema = schema_of(int(str(what["rows"])))
    network = build_network(
        CONFIGS[name](**MODELS[name]),
        embeddings_config(str(what["store"])),
        schema,
        embeddings.output_dims,
    )
    model = CTRModel(embeddings, network.to(device)).train()
    optimizer = torch.optim.Adam(model.dense_parameters(), lr=1e-3)
    batches = itertools.cycle(
        [draw_batch(embeddings, schema, what, setting) for _ in range(HELD_BATCHES)]
    )

    def step() -> None:
        batch = next(batches).to(device, non_blocking=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            logits, _ = model(batch)
        loss = F.binary_cross_entropy_with_logits(logits.float(), batch.labels)
        model.zero_grad()
        loss.backward()
        optimizer.step()
        embeddings.store.step()

    return step


def draw_batch(
    embeddings: FeatureEmbeddings, schema: Schema, what: Point, setting: Setting
) -> Batch:
    """A batch in page-locked memory of the host; numbers are drawn on the device."""
    size = int(str(what["batch_size"]))
    ids = [
        torch.exp(torch.rand(size, device=setting.device) * torch.tensor(f.num_ids + 1.0).log())
        .sub(1)
        .int()
        .clamp(0, f.num_ids - 1)
        for f in schema.sparse
    ]
    sparse = JaggedIds(
        keys=[f.name for f in schema.sparse],
        values=torch.cat(ids).cpu(),
        lengths=torch.ones(size * len(ids), dtype=torch.int32),
    )
    batch = Batch(
        dense=torch.randn(size, len(schema.numerical)),
        sparse=sparse,
        labels=(torch.rand(size) < 0.25).float(),
        cursor=Cursor(0, 0),
        global_rows=size,
    )
    batch = embeddings.to_physical(batch)
    return batch.pin_memory() if setting.is_cuda else batch
