"""Does bf16 cost AUC? fp32 and bf16 on the same rows, with two seeds to tell it from noise.

Generated rows with a planted model, as in `recsys demo`, and the real Criteo rows where
$RECSYS_REAL_DATA has them.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import polars as pl

import data_pipelines
from benchmarks.gpu.setting import Point, Setting
from benchmarks.samples import RANDOM_SPLIT, REAL_DATA, prepared
from data_pipelines.synthetic import generate_criteo
from recsys.cli.demo import CONFIG
from recsys.config.run import load_config
from recsys.evaluation.score import evaluate_split
from recsys.metrics import compute_auc, compute_log_loss
from recsys.training.run_folder.trained import load_trained
from recsys.training.train import train

ROWS, SMALL_ROWS = 300_000, 10_000
SEEDS = (0, 1)
REAL_CONFIG = Path("configs/criteo_kaggle/dcn_v2.yaml")


def points(setting: Setting) -> Iterator[Point]:
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        raw, dataset = work / "raw.tsv", work / "generated"
        truth = generate_criteo(raw, SMALL_ROWS if setting.is_small else ROWS, seed=1)
        schema = data_pipelines.prepare("criteo_kaggle", [raw], dataset, RANDOM_SPLIT)
        yield {"data": "generated", "best_possible_auc": truth.split_auc(schema, "test")}
        yield from compare(setting, "generated", CONFIG, dataset, work)
        if (REAL_DATA / "criteo_kaggle").is_dir() and not setting.is_small:
            real = prepared("criteo_kaggle", work)
            yield from compare(setting, "criteo_kaggle sample", REAL_CONFIG, real, work)


def compare(
    setting: Setting, name: str, config: Path, dataset: Path, work: Path
) -> Iterator[Point]:
    for seed in SEEDS[:1] if setting.is_small else SEEDS:
        for precision in ("fp32", "bf16"):
            what: Point = {"data": name, "precision": precision, "seed": seed}
            run = work / f"{dataset.name}-{precision}-{seed}"
            yield setting.attempt(what, run_once, setting, what, config, dataset, run)


def run_once(setting: Setting, what: Point, config: Path, dataset: Path, run: Path) -> Point:
    overrides = [
        f"data.path={dataset}",
        f"train.device={setting.device.type}",
        f"train.precision={what['precision']}",
        f"train.seed={what['seed']}",
        f"embeddings.store={'fused' if setting.has_fused else 'plain'}",
        *(["train.epochs=1"] if setting.is_small else []),
    ]
    train(load_config(config, overrides), run)
    rows = pl.read_parquet(evaluate_split(load_trained(run), "test"))
    logits, labels = rows["logit"].to_numpy(), rows["label"].to_numpy()
    return {"test_auc": compute_auc(logits, labels), "log_loss": compute_log_loss(logits, labels)}
