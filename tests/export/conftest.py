"""A prepared data set with every kind of encoding, and a run and an export of each model on it."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

import data_pipelines
from data_pipelines import FrameEncoder, read_raw
from recsys.config.run import RunConfig, dump_config
from recsys.embeddings.table_spec import RowsOf
from recsys.export.write import export_run
from recsys.schema import SCHEMA_FILE, load_schema
from recsys.training.checkpoint.io import save_weights
from recsys.training.run_folder.trained import TrainedRun, build_model, load_trained
from tests.export.histories import make_place

ROWS = 300
RECIPE = """
label: {column: clicked}
numerical: {columns: [price, age, clicks, visits, "%rate"]}
categorical: {columns: [color, shop, dense]}
sequence: {columns: [history, tags], separator: "|", max_length: 3}
min_count: 2
shared_vocabulary: {history: color}
per_feature:
  price: {transform: standardize}
  age: {transform: log}
  clicks: {transform: criteo_bucket}
  visits: {transform: {kind: quantile_buckets, num_buckets: 4}}
  shop: {encoding: {kind: hash, cardinality: 40}}
  tags: {encoding: {kind: hash, cardinality: 30}}
"""
MODELS = {
    "logistic_regression": {
        "model": {"name": "logistic_regression"},
        "embeddings": {"default": {"method": "full_table", "embedding_dim": 1}},
    },
    "dcn_v2": {
        "model": {"name": "dcn_v2", "num_cross_layers": 1, "hidden_dims": [8], "batch_norm": True},
        "embeddings": {
            "default": {"method": "full_table", "embedding_dim": 4},
            "features": {
                "shop": {
                    "method": "hashed",
                    "embedding_dim": 8,
                    "num_buckets": 11,
                    "num_hashes": 2,
                },
                "c*": {"method": "full_table", "embedding_dim": 6},
                "history": {"shares_table_with": "color", "pooling": "sum"},
                "age": {"numerical": "vector"},
            },
            "numerical": "raw",
        },
    },
    "autoint": {
        "model": {"name": "autoint", "num_layers": 1, "attention_dim": 4},
        "embeddings": {"default": {"method": "full_table", "embedding_dim": 4}, "store": "plain"},
    },
    "autoint+": {
        "model": {
            "name": "autoint",
            "num_layers": 1,
            "attention_dim": 4,
            "hidden_dims": [6],
            "dropout": 0.5,
            "layer_norm": "after_relu",
            "scale_scores": True,
        },
        "embeddings": {
            "default": {
                "method": "hashed",
                "embedding_dim": 4,
                "num_buckets": 3,
            },
            "features": {"clicks": {"method": "full_table", "embedding_dim": 4}},
        },
    },
}


def write_raw_rows(path: Path) -> Path:
    rng = np.random.default_rng(3)
    colors = np.array(["red", "green", "blue", "größe", "a,b", ""])

    def bags():
        return ["|".join(rng.choice(colors, n)) for n in rng.integers(0, 6, ROWS)]

    def with_gaps(values):
        return pl.Series(values).set(pl.Series(rng.random(ROWS) < 0.2), None)

    pl.DataFrame(
        {
            "clicked": rng.integers(0, 2, ROWS),
            "price": with_gaps(rng.normal(5, 3, ROWS)),
            "age": with_gaps(rng.normal(30, 40, ROWS)),
            "clicks": with_gaps(rng.integers(-2, 5000, ROWS).astype(float)),
            "visits": with_gaps(rng.integers(0, 9, ROWS).astype(float)),
            "%rate": with_gaps(rng.random(ROWS)),
            "color": rng.choice(colors, ROWS),
            "shop": with_gaps([f"shop {i}" for i in rng.integers(0, 90, ROWS)]),
            "dense": [f"d{i}" for i in rng.geometric(0.1, ROWS)],
            "history": bags(),
            "tags": bags(),
        }
    ).write_csv(path)
    return path


@dataclass(frozen=True)
class Workplace:
    """Everything that one model's tests need."""

    raw: Path
    dataset: Path
    trained: TrainedRun
    export: Path

    def raw_chunks(self, raw: Path | None = None):
        schema = self.trained.schema
        encoder = FrameEncoder(schema, self.dataset)
        for frame in read_raw(schema, [raw or self.raw]):
            yield frame, encoder.encode(frame)


def write_run(run_dir: Path, config: RunConfig) -> TrainedRun:
    """A run folder whose weights are large random numbers: any slip shows in the scores."""
    schema = load_schema(config.data.path)
    model = build_model(config, schema)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        weights = model.embeddings.store.weights()
        for table in model.embeddings.store.tables:
            weights[table.name].normal_(0, 1, generator=generator)
            if isinstance(table.init, RowsOf):  # rows that start as zeros stay zeros
                weights[table.name][table.init.rows < 0] = 0.0
        for parameter in model.network.parameters():
            parameter.normal_(0, 0.3, generator=generator)
        for name, buffer in model.network.named_buffers():
            if "running" in name:
                buffer.uniform_(0.5, 2, generator=generator)
    run_dir.mkdir()
    (run_dir / "config.yaml").write_text(dump_config(config))
    (run_dir / SCHEMA_FILE).write_text(schema.model_dump_json())
    save_weights(
        model.dense_state_dict(),
        model.embeddings.store.state(),
        run_dir / "checkpoints" / "best-000000",
    )
    return load_trained(run_dir)


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory):
    """name of a model → its workplace, made once."""
    root = tmp_path_factory.mktemp("export")
    raw = write_raw_rows(root / "rows.csv")
    (root / "shop.yaml").write_text(RECIPE)
    dataset = root / "dataset"
    data_pipelines.prepare(str(root / "shop.yaml"), [raw], dataset)

    @cache
    def build(model: str) -> Workplace:
        config = RunConfig.model_validate(
            {
                "data": {"path": dataset, "global_batch_size": 64},
                "train": {
                    "epochs": 1,
                    "dense_optimizer": {"learning_rate": 0.1},
                    "embedding_optimizer": {"name": "rowwise_adagrad", "learning_rate": 0.1},
                    "device": "cpu",
                },
                **MODELS[model],
            }
        )
        trained = write_run(root / f"run-{model}", config)
        export = export_run(trained, root / "exports" / model)
        return Workplace(raw, dataset, trained, export)

    return build


@pytest.fixture(scope="session")
def place_of_histories(tmp_path_factory: pytest.TempPathFactory):
    """name of a model of histories → its run and its export, made once."""
    return make_place(tmp_path_factory.mktemp("histories"), write_run)
