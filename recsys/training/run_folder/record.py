"""training.json: the facts about a run that its report shows."""

from collections.abc import Mapping

from recsys.config.run import RunConfig
from recsys.distributed.device import describe_device
from recsys.distributed.run_memory import count_run_bytes
from recsys.reports.run_folder import TrainingRecord
from recsys.schema import Schema
from recsys.training.run_folder.trained import TrainedRun


def describe_training(
    config: RunConfig,
    schema: Schema,
    best: tuple[int | None, float | None],
    training: Mapping[str, object],
) -> dict[str, object]:
    """The content of training.json; `best`: epoch, from 0, and score on the valid rows."""
    facts: dict[str, object] = {
        "model": config.model.name,
        "seed": config.train.seed,
        "monitor": config.train.monitor,
        "best_epoch": best[0],
        f"best_valid_{config.train.monitor}": best[1],
        "training": training,
        "embeddings": count_run_bytes(config, schema).model_dump(mode="json"),
    }
    if config.allocation is not None:
        facts["allocation"] = config.allocation.model_dump(mode="json")
    return facts


def unfinished_record(trained: TrainedRun) -> TrainingRecord | None:
    """The record of a run that has not finished; None if it has, and training.json exists."""
    progress = trained.unfinished
    if progress is None:
        return None
    training = {
        "epochs": progress.epoch + 1,
        "steps": progress.step,
        "samples_per_second": progress.samples_per_second,
        "device": describe_device(trained.ranks.device),
        "finished": False,
    }
    best = (progress.best_epoch, progress.best_score)
    facts = describe_training(trained.config, trained.schema, best, training)
    return TrainingRecord.model_validate(facts)
