"""Checks a run before its first step: refuses what cannot work, adjusts what small data need."""

from recsys.config.run import RunConfig
from recsys.distributed.device import check_bf16, choose_device, has_bf16
from recsys.distributed.run_memory import check_run_budget
from recsys.errors import RecsysError
from recsys.metrics import METRICS
from recsys.reports.slices import choose_slices
from recsys.schema import Schema


def check_run(config: RunConfig, schema: Schema) -> None:
    """Raises RecsysError for what would otherwise only fail after hours of training."""
    for split in ("train", "valid"):
        _check_classes(schema, split)
    choose_slices(schema, config.report.slices)
    _check_monitor(config, schema)
    check_run_budget(config, schema)
    if config.train.precision == "bf16":
        check_bf16(choose_device(config.train.device))


def fit_to_data(config: RunConfig, schema: Schema) -> tuple[RunConfig, tuple[str, ...]]:
    """Returns the config as it can run on this data and device, and what the user must know.

    A run that would end before its first validation would have no best weights: it validates
    after each epoch instead, or after its last step if `train.steps` limits it.
    """
    notes = []
    if config.train.precision == "bf16" and not has_bf16(choose_device(config.train.device)):
        notes.append("this CPU has no bf16 arithmetic: bf16 is emulated, slower than fp32")
    every, steps = config.train.validate_every_steps, _count_steps(config, schema)
    if every is not None and steps < every:
        once = config.train.steps  # None: after each epoch
        train = config.train.model_copy(update={"validate_every_steps": once})
        config = config.model_copy(update={"train": train})
        notes.append(
            f"train.validate_every_steps is {every}, but the whole run has {steps} steps: "
            f"validating after {'each epoch' if once is None else 'the last step'} instead"
        )
    return config, tuple(notes)


def _count_steps(config: RunConfig, schema: Schema) -> int:
    steps_per_epoch = -(-schema.split("train").rows // config.data.global_batch_size)
    return config.train.steps or (config.train.epochs or 0) * steps_per_epoch


def _check_classes(schema: Schema, split: str) -> None:
    """Rows of one class teach nothing, and no AUC of them can choose the best weights."""
    facts = schema.split(split)
    if 0 < facts.positives < facts.rows:
        return
    only = "no rows" if not facts.rows else f"{facts.rows:,} rows, all of label "
    raise RecsysError(
        f"the {split} split needs rows of both classes",
        where=f"dataset {schema.name!r}",
        expected="rows with label 0 and rows with label 1",
        got=only if not facts.rows else f"{only}{int(facts.positives > 0)}",
        fix="check the recipe's `label` and `split`, and prepare the dataset again",
    )


def _check_monitor(config: RunConfig, schema: Schema) -> None:
    if METRICS[config.train.monitor].needs_groups and schema.group is None:
        others = ", ".join(m.name for m in METRICS.values() if not m.needs_groups)
        raise RecsysError(
            f"the dataset {schema.name!r} has no groups, so this metric cannot be monitored",
            where="train.monitor",
            expected=f"{others}, or a dataset prepared with `group`",
            got=config.train.monitor,
        )
