"""How near do the fused lookup and its update come to the device's copy bandwidth?

Uniform ids, so that caches help least. Bytes are the least that must move: forward reads ids,
offsets and a row for each id and writes the pooled vectors; the update reads ids and gradients and
reads and writes every row in the batch and its accumulator once.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.gpu.setting import Point, Setting
from recsys.compat.torchrec import KeyedJaggedTensor
from recsys.data.batch import RowLookups
from recsys.embeddings.build import build_embeddings
from recsys.embeddings.collection import FeatureEmbeddings
from recsys.embeddings.config import EmbeddingsConfig, FeatureConfig
from recsys.embeddings.methods.full_table import FullTableConfig
from recsys.embeddings.optimizers import RowwiseAdagradConfig
from recsys.schema import Feature, Schema

TABLES = 26
FLOAT_BYTES = 4


class Size(NamedTuple):
    """`rows` of each table, `bag` ids in each bag."""

    rows: int
    dim: int
    batch_size: int
    bag: int


SIZES = [
    (1_000_000, 16, 65_536, 1),
    (1_000_000, 64, 65_536, 1),
    (1_000_000, 128, 65_536, 1),
    (1_000_000, 16, 8_192, 1),
    (1_000_000, 128, 8_192, 1),
    (8_000_000, 16, 65_536, 1),
    (100_000, 16, 65_536, 1),
    (1_000_000, 16, 8_192, 20),
    (1_000_000, 128, 8_192, 20),
]
SMALL_SIZES = [(1_000, 16, 64, 1), (1_000, 8, 64, 3)]


def points(setting: Setting) -> Iterator[Point]:
    if not setting.has_fused:
        yield {"failed": "fbgemm is here without its CUDA kernels: no fused lookup"}
        return
    copy = setting.copy_bytes_per_second()
    yield {"copy_gb_per_second": round(copy / 1e9, 1)}
    for size in map(Size._make, SMALL_SIZES if setting.is_small else SIZES):
        what: Point = {**size._asdict(), "rows": TABLES * size.rows}
        yield setting.attempt(what, measure, setting, size, copy)


def measure(setting: Setting, size: Size, copy: float) -> Point:
    embeddings = build_tables(size, setting.device)
    ids = draw_ids(size, setting.device)
    gradient = torch.randn(size.batch_size, TABLES * size.dim, device=setting.device)
    (kernel,) = embeddings.store.groups["pooled"].kernels()
    offsets = ids.offsets()

    def look_up() -> Tensor:
        return kernel(indices=ids.values(), offsets=offsets)

    forward = setting.median_milliseconds(look_up)
    both = setting.median_milliseconds(lambda: look_up().backward(gradient))
    ours = setting.median_milliseconds(
        lambda: embeddings({"pooled": RowLookups(ids)})[0].fields.backward(gradient)
    )
    read, written = bytes_moved(ids, size)
    update = max(both - forward, 1e-6)
    return {
        "forward_milliseconds": round(forward, 4),
        "forward_of_copy_bandwidth": round(read / forward * 1e3 / copy, 3),
        "update_milliseconds": round(update, 4),
        "update_of_copy_bandwidth": round(written / update * 1e3 / copy, 3),
        "both_through_our_store_milliseconds": round(ours, 4),
    }


def build_tables(size: Size, device: torch.device) -> FeatureEmbeddings:
    kind = "categorical" if size.bag == 1 else "sequence"
    features = tuple(
        Feature(name=f"f{i}", kind=kind, column=f"f{i}", cardinality=size.rows)
        for i in range(TABLES)
    )
    config = EmbeddingsConfig(
        default=FullTableConfig(embedding_dim=size.dim),
        features={"*": FeatureConfig(pooling="sum")} if size.bag > 1 else {},
    )
    schema = Schema(name="generated", features=features, splits={})
    embeddings = build_embeddings(config, schema, RowwiseAdagradConfig(learning_rate=0.01), device)
    for weight in embeddings.store.weights().values():
        weight.uniform_(-0.01, 0.01)
    return embeddings


def draw_ids(size: Size, device: torch.device) -> KeyedJaggedTensor:
    generator = torch.Generator(device).manual_seed(0)
    bags = TABLES * size.batch_size
    values = torch.randint(
        size.rows, (bags * size.bag,), generator=generator, device=device, dtype=torch.int32
    )
    lengths = torch.full((bags,), size.bag, dtype=torch.int32, device=device)
    keys = [f"f{i}" for i in range(TABLES)]
    return KeyedJaggedTensor(keys=keys, values=values, lengths=lengths).sync()


def bytes_moved(ids: KeyedJaggedTensor, size: Size) -> tuple[int, int]:
    """The least that forward and that backward with the update move."""
    index_bytes = ids.values().nbytes + ids.offsets().nbytes
    vectors = TABLES * size.batch_size * size.dim * FLOAT_BYTES
    forward = index_bytes + len(ids.values()) * size.dim * FLOAT_BYTES + vectors
    parts = ids.values().split(ids.length_per_key())
    touched = sum(len(part.unique()) for part in parts)
    return forward, index_bytes + vectors + 2 * touched * (size.dim + 1) * FLOAT_BYTES
