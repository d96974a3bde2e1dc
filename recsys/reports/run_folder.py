"""Reads a run folder for its report."""

from pathlib import Path

import polars as pl
from pydantic import ValidationError

from recsys.config.base import Record
from recsys.embeddings.records import AllocationFacts, EmbeddingBytes
from recsys.errors import RecsysError
from recsys.io import paths as io_paths
from recsys.io.plain_data import parse_json
from recsys.schema import Schema, load_schema

MAX_CURVE_POINTS = 300


class TrainingFacts(Record):
    """Cost of the training; a run that has not ended has `finished: false`."""

    epochs: int
    steps: int
    samples_per_second: float | None = None
    peak_rss_bytes: int | None = None
    device: str

    @property
    def is_finished(self) -> bool:
        return bool((self.model_extra or {}).get("finished", True))


class TrainingRecord(Record):
    """`training.json`; `best_epoch` counts from 0, `monitor` is the metric that chose it."""

    model: str
    seed: int
    monitor: str = "auc"
    best_epoch: int | None = None
    training: TrainingFacts
    embeddings: EmbeddingBytes
    allocation: AllocationFacts | None = None


class Curve(Record):
    """One logged value over the steps, thinned by averaging neighbors."""

    step: tuple[float, ...]
    value: tuple[float, ...]


class RunFolder(Record):
    """The parts of a run that a report shows."""

    name: str
    config: str
    environment: dict[str, object]
    dataset: Schema
    record: TrainingRecord
    curves: dict[str, Curve]
    predictions: dict[str, Path]
    attention: dict[str, Path] = {}


def load_run(run_dir: Path, record: TrainingRecord | None = None) -> RunFolder:
    """Reads the files of a run.

    Args:
        run_dir: the run folder.
        record: replaces training.json, which a run has only after training has ended.

    Raises:
        RecsysError: names the file that is missing or damaged.
    """
    return RunFolder(
        name=run_dir.resolve().name,
        config=read_text(run_dir / "config.yaml"),
        environment=read_environment(run_dir / "environment.json"),
        dataset=load_schema(run_dir),
        record=record or read_record(run_dir / "training.json"),
        curves=read_curves(run_dir / "metrics.csv"),
        predictions=find_predictions(run_dir),
        attention={path.stem: path for path in (run_dir / "attention").glob("*.parquet")},
    )


def find_predictions(run_dir: Path) -> dict[str, Path]:
    """Split → file; train, valid and test first, in this order."""
    usual = ("train", "valid", "test")
    paths = sorted((run_dir / "predictions").glob("*.parquet"))
    if not paths:
        raise RecsysError(
            "the run has no predictions",
            where=run_dir / "predictions",
            expected="SPLIT.parquet",
            fix=f"run `recsys evaluate {run_dir} --split test`",
        )
    paths.sort(key=lambda path: usual.index(path.stem) if path.stem in usual else len(usual))
    return {path.stem: path for path in paths}


def read_text(path: Path) -> str:
    try:
        return io_paths.read_text(io_paths.file_inside(path.parent, path.name))
    except FileNotFoundError:
        raise RecsysError(
            f"{path.parent} is not a complete run: {path.name} is missing",
            expected="a folder written by `recsys train`",
        ) from None
    except OSError as error:
        raise RecsysError("a file of the run cannot be read", where=path, got=error) from None


def read_environment(path: Path) -> dict[str, object]:
    environment = parse_json(read_text(path), str(path))
    if not isinstance(environment, dict):
        raise RecsysError("a file of the run is damaged", where=path, expected="a JSON object")
    return environment


def read_record(path: Path) -> TrainingRecord:
    try:
        return TrainingRecord.model_validate_json(read_text(path))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise RecsysError(
            "a file of the run is damaged", where=f"{path}: {key}", got=first["msg"]
        ) from None


def _bytes_of(path: Path) -> bytes:
    return io_paths.read_bytes(io_paths.file_inside(path.parent, path.name))


def read_curves(path: Path) -> dict[str, Curve]:
    """Every column of the log but epoch and step; cells are sparse: each has its own steps."""
    if not path.is_file() or path.stat().st_size == 0:
        return {}
    try:
        log = pl.read_csv(_bytes_of(path), infer_schema=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise RecsysError("the training log cannot be read", where=path, got=error) from None
    if "step" not in log.columns:
        raise RecsysError("the training log has no column 'step'", where=path, got=log.columns)
    curves = {name: read_curve(log, name) for name in log.columns if name not in ("epoch", "step")}
    return {name: curve for name, curve in curves.items() if curve.step}


def read_curve(log: pl.DataFrame, name: str) -> Curve:
    points = log.select(
        step=pl.col("step").cast(pl.Float64, strict=False),
        value=pl.col(name).cast(pl.Float64, strict=False),
    ).filter(pl.col("step").is_finite() & pl.col("value").is_finite())
    share = max(1, -(-len(points) // MAX_CURVE_POINTS))
    thinned = points.group_by(pl.row_index() // share, maintain_order=True).mean()
    return Curve(step=tuple(thinned["step"]), value=tuple(thinned["value"]))
