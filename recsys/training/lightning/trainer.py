"""Lightning's Trainer, set up for our strategies, checkpoints and callbacks."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from lightning import Callback, Trainer

from recsys.config.train import TrainConfig
from recsys.distributed.context import Ranks, local_world_size
from recsys.training.checkpoint.io import SafetensorsCheckpointIO
from recsys.training.lightning.callbacks import (
    ProgressBar,
)
from recsys.training.lightning.strategy import OneDeviceStrategy, TorchRecStrategy


def build_trainer(config: TrainConfig, callbacks: list[Callback], ranks: Ranks) -> Trainer:
    """Lightning's Trainer with our strategy, checkpoints and callbacks."""
    checkpoint_io = SafetensorsCheckpointIO(ranks.checkpoint, ranks.rank)
    strategy = (
        OneDeviceStrategy(ranks.device, checkpoint_io=checkpoint_io)
        if ranks.host is None
        else TorchRecStrategy(ranks, checkpoint_io)
    )
    devices = local_world_size()
    return Trainer(
        accelerator="gpu" if ranks.device.type == "cuda" else "cpu",
        devices=devices,
        num_nodes=ranks.world_size // devices,
        strategy=strategy,
        precision="bf16-mixed" if config.precision == "bf16" else "32-true",
        max_epochs=-1,  # ResumePoint ends training
        max_steps=-1,
        # counted over epochs, because an epoch may be shorter than the interval
        check_val_every_n_epoch=None if config.validate_every_steps else 1,
        val_check_interval=config.validate_every_steps or 1.0,
        num_sanity_val_steps=0,
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=any(isinstance(c, ProgressBar) for c in callbacks),
        enable_model_summary=False,
        use_distributed_sampler=False,
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
