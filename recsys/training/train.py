"""Training: from a config to a run folder."""

import logging
import resource
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from lightning import Callback, Trainer
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from recsys.config import RunConfig
from recsys.data.loader import BatchLoader
from recsys.embeddings.memory import count_bytes
from recsys.errors import RecsysError
from recsys.models.ctr_model import CTRModel
from recsys.schema import Schema, load_schema
from recsys.train_config import TrainConfig
from recsys.training.allocator import keep_freed_memory
from recsys.training.callbacks import (
    Checkpoints,
    ProgressBar,
    Speed,
    ValidationSchedule,
    build_progress,
    whole_checkpoints,
)
from recsys.training.checkpoint_io import SafetensorsCheckpointIO
from recsys.training.device import check_bf16, choose_device, describe_device
from recsys.training.epoch_stream import ContinueStream, EpochStream
from recsys.training.lightning_module import CTRModule
from recsys.training.runs import (
    TRAINING_FILE,
    build_model,
    continue_run_folder,
    id_counts,
    start_run_folder,
    write_json,
)


def train(config: RunConfig, run_dir: Path, *, resume: bool = False) -> None:
    """Trains one config into `run_dir`; `resume` continues from its last whole checkpoint."""
    keep_freed_memory()
    schema = load_schema(config.data.path)
    for split in ("train", "valid"):
        schema.split(split)
    device = choose_device(config.train.device)
    if config.train.precision == "bf16":
        check_bf16(device)
    model = build_model(config, schema)
    torch.manual_seed(config.train.seed)  # dropout
    checkpoint = None
    if resume:
        checkpoint = _checkpoint_to_resume(run_dir)
        continue_run_folder(run_dir, config, schema)
    else:
        start_run_folder(run_dir, config, schema)
    _add_row_penalty(model, config, schema)
    _fit(model, config, schema, run_dir, checkpoint)


def _checkpoint_to_resume(run_dir: Path) -> Path:
    checkpoints = whole_checkpoints(run_dir / "checkpoints")
    if not checkpoints:
        raise RecsysError(
            f"{run_dir} has no whole checkpoint to resume from",
            expected="a folder checkpoints/step-…",
            fix="start it again with another --out",
        )
    return checkpoints[-1]


def _add_row_penalty(model: CTRModel, config: RunConfig, schema: Schema) -> None:
    optimizer = config.train.embedding_optimizer
    if optimizer.l2 > 0 and not (config.embeddings.store == "plain" and optimizer.name == "adam"):
        counts = id_counts(schema, config.data.path)
        model.add_row_penalty(counts, schema.split("train").rows, optimizer.l2)


def _fit(
    model: CTRModel, config: RunConfig, schema: Schema, run_dir: Path, checkpoint: Path | None
) -> None:
    stream = EpochStream(build_loader(config, schema, "train", model, shuffle=True))
    validation = build_loader(config, schema, "valid", model, shuffle=False)
    module = CTRModule(model, config.train)
    checkpoints_dir = run_dir / "checkpoints"
    speed, schedule = Speed(), ValidationSchedule(config.train, checkpoints_dir)
    callbacks = [
        ContinueStream(stream),
        schedule,
        speed,
        Checkpoints(config.train, checkpoints_dir),
        build_progress(speed),
    ]
    with quiet_lightning():
        trainer = build_trainer(config.train, callbacks, run_dir)
        trainer.fit(module, stream, validation, ckpt_path=checkpoint)
    facts = {
        "model": config.model.name,
        "seed": config.train.seed,
        "best_epoch": schedule.best_epoch,
        "best_valid_auc": schedule.best_auc,
        "training": {
            "epochs": module.trained.epoch + 1,
            "steps": trainer.global_step,
            "samples_per_second": round(speed.samples_per_second, 1),
            "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "device": describe_device(module.device),
        },
        "embeddings": count_bytes(model.embeddings, config.train.embedding_optimizer.name),
    }
    write_json(run_dir / TRAINING_FILE, facts)


def build_trainer(config: TrainConfig, callbacks: list[Callback], run_dir: Path) -> Trainer:
    """Lightning's Trainer with our checkpoints, loggers and progress; it writes into `run_dir`."""
    device = choose_device(config.device)
    return Trainer(
        accelerator="gpu" if device.type == "cuda" else "cpu",
        devices=1,
        precision="bf16-mixed" if config.precision == "bf16" else "32-true",
        max_epochs=config.epochs if config.epochs is not None else -1,
        max_steps=config.steps if config.steps is not None else -1,
        # counted over epochs, because an epoch may be shorter than the interval
        check_val_every_n_epoch=None if config.validate_every_steps else 1,
        val_check_interval=config.validate_every_steps or 1.0,
        num_sanity_val_steps=0,
        log_every_n_steps=config.log_every_steps,
        callbacks=callbacks,
        plugins=[SafetensorsCheckpointIO()],
        logger=[
            CSVLogger(run_dir, name="", version=""),
            TensorBoardLogger(run_dir / "tensorboard", name="", version=""),
        ],
        enable_checkpointing=False,
        enable_progress_bar=any(isinstance(c, ProgressBar) for c in callbacks),
        enable_model_summary=False,
        use_distributed_sampler=False,
    )


def build_loader(
    config: RunConfig, schema: Schema, split: str, model: CTRModel, *, shuffle: bool
) -> BatchLoader:
    """The loader of a split; its threads also turn ids into rows of the model's tables."""
    return BatchLoader(
        config.data.path,
        schema,
        split,
        config.data,
        seed=config.train.seed,
        shuffle=shuffle,
        transform=model.embeddings.to_physical,
    )


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Lightning's hints (devices found, loader workers, tips) are not for our users."""
    loggers = [logging.getLogger(f"lightning.{name}") for name in ("pytorch", "fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
