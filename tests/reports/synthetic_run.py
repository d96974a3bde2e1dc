"""A run folder and its data set as training and evaluation would leave them, from known numbers."""

import json

import numpy as np
import polars as pl

from recsys.schema import DataFile, Feature, Schema, Split, VocabularyEncoding

CITIES = ("Lyon", "Graz", "Oslo", "Bern", "<Cork>", "Porto", "Gent", "Brno", "Turku", "Split")


def make_predictions(rows, seed, groups=None):
    rng = np.random.default_rng(seed)
    city = np.minimum(rng.geometric(0.3, rows) - 1, 12).astype(np.int32)
    device = rng.integers(0, 4, rows, dtype=np.int32)
    logits = (rng.normal(size=rows) * np.where(device == 2, 0.4, 1.2) - 1.3).astype(np.float32)
    columns = {
        "label": (rng.random(rows) < 1 / (1 + np.exp(0.05 - logits))).astype(np.int8),
        "logit": logits,
        "probability": (1 / (1 + np.exp(-logits))).astype(np.float32),
    }
    if groups:
        columns["group_id"] = rng.integers(0, groups, rows)
    return pl.DataFrame(columns | {"slice/city": city, "slice/device": device})


def make_schema(rows=137_139):
    sparse = [
        Feature(
            name=name,
            kind="categorical",
            column=name,
            cardinality=cardinality,
            encoding=VocabularyEncoding(file=f"vocabularies/{name}.parquet"),
        )
        for name, cardinality in (("city", 13), ("device", 4), ("user", 48_211))
    ]
    splits = {
        name: Split(
            rows=int(rows * share),
            positives=int(rows * share * 0.25),
            files=(
                DataFile(path=f"{name}/part-00000.parquet", rows=int(rows * share), sha256="0"),
            ),
        )
        for name, share in (("train", 0.8), ("valid", 0.1), ("test", 0.1))
    }
    age = Feature(name="age", kind="numerical", column="age")
    return Schema(
        name="two_cities", features=(age, *sparse), label="clicked", group="user", splits=splits,
        created_by="recsys 0.1.0",
    )  # fmt: skip


def make_training_record(features=3):
    sizes = {"user": 48_211, "city": 13, "device": 4} | {
        f"C{k}": int(40_000 * 0.8**k) + 3 for k in range(features - 3)
    }
    described = {
        name: {
            "method": "hashed" if name == "user" else "full_table",
            "cardinality": ids,
            "dim": 16,
            "train_bytes": ids * 68,
            "serve_bytes": ids * 64,
            "table_bytes": ids * 64 - 100,
            "parameter_bytes": 100,
            "projection_bytes": 0,
            "buffer_bytes": 0,
            "full_table_bytes": ids * 256,
        }
        for name, ids in sizes.items()
    }
    return {
        "model": "autoint",
        "seed": 3,
        "best_epoch": 2,
        "training": {
            "epochs": 3,
            "steps": 160,
            "samples_per_second": 51_234.5,
            "peak_rss_bytes": 812_000_000,
            "device": "cpu",
        },
        "embeddings": {
            "train_bytes": sum(f["train_bytes"] for f in described.values()),
            "serve_bytes": sum(f["serve_bytes"] for f in described.values()),
            "full_table_bytes": sum(f["full_table_bytes"] for f in described.values()),
            "share_of_full_tables": 0.25,
            "features": described,
            "shared_tables": {
                "places": {
                    "charged_to": "city",
                    "readers": ["city", "device"],
                    "train_bytes": 884,
                    "serve_bytes": 832,
                }
            },
        },
    }


LOG = """epoch,learning_rate,samples_per_second,step,train/loss,valid/auc,valid/log_loss
0,0.001,,9,0.6512,,
0,0.001,,29,0.5411,,
0,,50100.0,53,,0.7311,0.4921
1,0.001,,69,0.5012,,
1,,51200.0,107,,0.7463,0.4874
2,0.0001,,130,0.4712,,
2,,51900.0,160,,0.7442,0.4880
"""
CONFIG = """# two_cities, AutoInt
data:
  path: datasets/two_cities
  batch_size: 2048
model:
  name: autoint
train:
  epochs: 3
"""
ENVIRONMENT = {"python": "3.11.7", "torch": "2.13.0", "commit": "0123abc", "cpu": "2 cores"}


def write_run(run_dir, rows=2000, features=3):
    (run_dir / "predictions").mkdir(parents=True)
    (run_dir / "schema.json").write_text(make_schema().model_dump_json())
    (run_dir / "config.yaml").write_text(CONFIG)
    (run_dir / "environment.json").write_text(json.dumps(ENVIRONMENT))
    (run_dir / "training.json").write_text(json.dumps(make_training_record(features)))
    (run_dir / "metrics.csv").write_text(LOG)
    for seed, split in enumerate(("valid", "test")):
        path = run_dir / "predictions" / f"{split}.parquet"
        make_predictions(rows, seed, groups=rows // 10).write_parquet(path)
    return run_dir


def write_vocabulary(dataset_dir):
    (dataset_dir / "vocabularies").mkdir(parents=True)
    names = pl.DataFrame(
        {"value": CITIES, "id": range(1, 1 + len(CITIES)), "count": range(100, 90, -1)},
        schema={"value": pl.String, "id": pl.Int32, "count": pl.Int64},
    )
    names.write_parquet(dataset_dir / "vocabularies" / "city.parquet")
    return dataset_dir
