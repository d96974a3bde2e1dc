"""What is wrong with a run that can be known before it begins."""

from recsys.config import RunConfig
from recsys.errors import RecsysError
from recsys.schema import Schema
from recsys.sharding.paper_run import check_run_budget
from recsys.training.device import check_bf16, choose_device
from recsys.training.evaluation import choose_slices


def check_run(config: RunConfig, schema: Schema) -> None:
    """Refuses what would only fail after hours of training."""
    for split in ("train", "valid"):
        schema.split(split)
    choose_slices(schema, config.report.slices)
    _check_monitor(config, schema)
    _check_validates(config, schema)
    check_run_budget(config, schema)
    if config.train.precision == "bf16":
        check_bf16(choose_device(config.train.device))


def _check_monitor(config: RunConfig, schema: Schema) -> None:
    if config.train.monitor == "gauc" and schema.group is None:
        raise RecsysError(
            f"the data set {schema.name!r} has no groups within which to judge",
            where="train.monitor",
            expected="auc, or a data set that was prepared with `group`",
            got="gauc",
        )


def _check_validates(config: RunConfig, schema: Schema) -> None:
    """A run that ended before its first validation would have no best weights."""
    every, epochs = config.train.validate_every_steps, config.train.epochs
    steps_per_epoch = -(-schema.split("train").rows // config.data.global_batch_size)
    steps = config.train.steps or (epochs or 0) * steps_per_epoch
    if every is not None and steps < every:
        raise RecsysError(
            "training would end before its first validation",
            where="train.validate_every_steps",
            expected=f"at most {steps}, the steps of the whole run, or null: once an epoch",
            got=every,
        )
