"""`train`: from a config to a run folder."""

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch

from recsys.compat.malloc import keep_freed_memory
from recsys.config.run import RunConfig
from recsys.config.train import TrainConfig
from recsys.distributed.build import build_on_ranks
from recsys.distributed.context import Ranks, join_ranks
from recsys.distributed.device import choose_device, describe_device
from recsys.errors import RecsysError
from recsys.io.atomic import write_json
from recsys.io.process import peak_memory_bytes
from recsys.io.stop_signals import StopSignals
from recsys.models.ctr_model import CTRModel, Forward
from recsys.schema import Schema
from recsys.training.checkpoint.policy import (
    Checkpoints,
    checkpoint_io_of,
    latest_whole_checkpoint,
    whole_checkpoints,
)
from recsys.training.lightning.callbacks import (
    Speed,
    ValidationSchedule,
    build_progress,
)
from recsys.training.lightning.module import CTRModule
from recsys.training.lightning.pipeline import DetachPipeline, look_ahead, training_forward
from recsys.training.lightning.restoring import TrainingStart, restoring
from recsys.training.lightning.resumable_loader import ContinueStream, EpochStream
from recsys.training.lightning.resume_point import ResumePoint
from recsys.training.lightning.signals import StopOnSignal
from recsys.training.lightning.trainer import build_trainer, quiet_lightning
from recsys.training.loaders import build_loader
from recsys.training.metrics_log import MetricsLog
from recsys.training.preflight import check_run, fit_to_data
from recsys.training.row_regularization import add_row_l2
from recsys.training.run_folder.folder import (
    CONFIG_FILE,
    PLAN_FILE,
    TRAINING_FILE,
    check_dataset,
    continue_run_folder,
    start_run_folder,
)
from recsys.training.run_folder.lock import run_lock
from recsys.training.run_folder.record import describe_training
from recsys.training.run_folder.warm_start import WARM_START_FILE, WarmStart, describe, warm_start

# Larger than any difference between seeds in use: no two ranks of any runs share dropout masks.
RANK_SEEDS = 1_000_003
ModuleBuilder = Callable[[CTRModel, TrainConfig, Ranks, Forward], CTRModule]


def ranks_of(config: RunConfig) -> AbstractContextManager[Ranks]:
    """Joins the processes that the run's launcher has started."""
    device = choose_device(config.train.device)
    return join_ranks(device, needs_group=device.type == "cuda" and config.embeddings.has_placement)


def train(
    config: RunConfig,
    run_dir: Path | str,
    *,
    resume: bool = False,
    ranks: Ranks | None = None,
    build_module: ModuleBuilder = CTRModule,
) -> None:
    """Trains the model of a config and writes a run folder.

    On several devices, every process calls it: `recsys train` or torchrun starts them.

    Args:
        config: a complete run config.
        run_dir: the folder of the run; must be new or empty, unless `resume`.
        resume: continue after the last complete checkpoint of `run_dir`.
        ranks: the processes that train together; None joins those of the environment.
        build_module: makes the LightningModule; a search has training steps of its own.

    Raises:
        RecsysError: for a config, dataset or folder that cannot be used, and for a loss, weight or
            gradient that is not finite.
        StoppedBySignal: after SIGTERM or Ctrl-C, once a checkpoint is saved.
    """
    keep_freed_memory()
    run_dir = Path(run_dir)
    if resume and (run_dir / CONFIG_FILE).is_file():
        check_dataset(run_dir, config.data)
    schema = config.data.load_schema()
    check_run(config, schema)
    config, notes = fit_to_data(config, schema)
    with (
        StopSignals() as signals,
        ranks_of(config) if ranks is None else nullcontext(ranks) as ranks,
        run_lock(run_dir, rank=ranks.rank),
    ):
        built = build_on_ranks(config, schema, ranks)  # refuses before a file is written
        if ranks.is_first:
            for note in notes:
                print(f"note: {note}", file=sys.stderr, flush=True)  # noqa: T201  for the user
        forward = training_forward(built, config.train.pipeline, ranks.device)
        warm = None if resume else _warm_start(config, schema, built.model)
        checkpoint = _open_run_folder(config, schema, run_dir, ranks, resume=resume)
        if resume and checkpoint is None:
            warm = _warm_start(config, schema, built.model)
        if warm is not None and ranks.is_first:
            write_json(run_dir / WARM_START_FILE, warm.model_dump(mode="json"))
            print(describe(warm), file=sys.stderr, flush=True)  # noqa: T201  as asked for
        if built.plan is not None and ranks.is_first:
            write_json(run_dir / PLAN_FILE, built.plan.model_dump(mode="json"))
        torch.manual_seed(config.train.seed + RANK_SEEDS * ranks.rank)  # dropout
        add_row_l2(built.model, config, schema, ranks)
        module = build_module(built.model, config.train, ranks, forward)
        _fit(module, config, schema, run_dir, checkpoint, signals)


def _open_run_folder(
    config: RunConfig, schema: Schema, run_dir: Path, ranks: Ranks, *, resume: bool
) -> Path | None:
    """Makes the folder, or finds the checkpoint to resume from; rank 0 does it for all ranks."""
    checkpoint = None
    if ranks.is_first and resume:
        checkpoint = _checkpoint_to_resume(run_dir)
        continue_run_folder(run_dir, config)
    elif ranks.is_first:
        start_run_folder(run_dir, config, schema)
    found: Path | None = ranks.broadcast(checkpoint)
    return found


def _checkpoint_to_resume(run_dir: Path) -> Path | None:
    """The newest complete checkpoint; None if the run was stopped before its first one."""
    if not (run_dir / CONFIG_FILE).is_file():
        raise RecsysError(
            f"there is no run to resume in {run_dir}",
            expected=f"a folder with {CONFIG_FILE}, as `recsys train` writes",
            fix=f"start it with `recsys train CONFIG --out {run_dir}`",
        )
    checkpoint = latest_whole_checkpoint(run_dir / "checkpoints")
    if checkpoint is None and whole_checkpoints(run_dir / "checkpoints"):
        raise RecsysError(
            f"every checkpoint of {run_dir} is damaged",
            fix="restore one from a copy, or start a new run with another --out",
        )
    if checkpoint is None:
        print(  # noqa: T201  the user may have expected to find more
            f"{run_dir} has no whole checkpoint yet: training starts from the beginning",
            file=sys.stderr,
            flush=True,
        )
    return checkpoint


def _warm_start(config: RunConfig, schema: Schema, model: CTRModel) -> WarmStart | None:
    old_run, with_network = config.train.warm_start, config.train.warm_start_network
    if old_run is None:
        return None
    return warm_start(model, schema, config.data.path, old_run, with_network=with_network)


def _fit(
    module: CTRModule,
    config: RunConfig,
    schema: Schema,
    run_dir: Path,
    checkpoint: Path | None,
    signals: StopSignals,
) -> None:
    ranks, model = module.ranks, module.model
    ahead = look_ahead(module.train_forward[0], ranks.device)
    stream = EpochStream(build_loader(config, schema, "train", model, ranks, shuffle=True), ahead)
    validation = build_loader(config, schema, "valid", model, ranks, shuffle=False)
    checkpoints_dir = run_dir / "checkpoints"
    speed, schedule = Speed(), ValidationSchedule(config.train, checkpoints_dir)
    checkpoints = Checkpoints(config.train, checkpoints_dir)
    start = TrainingStart()
    callbacks = [
        start,
        ContinueStream(stream),
        schedule,
        speed,
        MetricsLog(run_dir, config.train, speed),
        checkpoints,
        *build_progress(speed, ranks),
        DetachPipeline(),
        StopOnSignal(signals, checkpoints.save_now, ranks.host),
        ResumePoint(config.train, stream, checkpoints.save),
    ]
    with quiet_lightning():
        trainer = build_trainer(config.train, callbacks, ranks)
        if checkpoint is not None:
            checkpoint_io_of(trainer).load_tables(checkpoint, model.embeddings.store.state())
        with restoring(checkpoint, start):
            trainer.fit(module, stream, validation, ckpt_path=checkpoint)
    training = {
        "epochs": module.trained.epoch + 1,
        "steps": trainer.global_step,
        "samples_per_second": round(speed.samples_per_second, 1),
        "peak_rss_bytes": peak_memory_bytes(),
        "device": describe_device(ranks.device),
        "world_size": ranks.world_size,
    }
    facts = describe_training(config, schema, (schedule.best_epoch, schedule.best_score), training)
    if ranks.is_first:
        write_json(run_dir / TRAINING_FILE, facts)
    ranks.barrier()
