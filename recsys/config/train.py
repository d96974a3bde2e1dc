"""The `train:` and `report:` sections."""

from typing import Annotated, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from recsys.config.base import AbsolutePath, BaseConfig, NameIn
from recsys.config.dense_optimizers import DenseOptimizerConfig
from recsys.embeddings.tables.optimizers import TableOptimizer
from recsys.metrics import METRICS


def _from_yaml_switch(value: object) -> object:
    """YAML reads a bare `on` or `off` as a boolean."""
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else value


PipelineChoice = Literal["auto", "on", "off"]


class TrainConfig(BaseConfig):
    """How long and with what the model is trained. A section of its own for each optimizer."""

    dense_optimizer: DenseOptimizerConfig
    embedding_optimizer: TableOptimizer
    # one of the two: passes over the train rows, or optimizer steps
    epochs: PositiveInt | None = None
    steps: PositiveInt | None = None
    seed: NonNegativeInt = 0
    # the metric on the valid rows that chooses the best weights
    monitor: Annotated[str, NameIn(METRICS)] = "auc"
    # after `plateau_patience` validations without a better one all learning rates are multiplied
    plateau_factor: float = Field(0.1, gt=0, le=1)
    plateau_patience: PositiveInt = 1
    # validations in a row without a better one that end training; null trains to the end
    early_stopping_patience: PositiveInt | None = 2
    # null validates at the end of each epoch
    validate_every_steps: PositiveInt | None = None
    # null writes a checkpoint at the end of each epoch only
    checkpoint_every_steps: PositiveInt | None = None
    keep_checkpoints: PositiveInt = 2
    # global norm over dense parameters and plain tables; fused tables have no gradient to clip
    gradient_clip_norm: PositiveFloat | None = None
    precision: Literal["fp32", "bf16"] = "fp32"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    # processes per machine, one device each, and machines; the global batch is cut among them
    devices: PositiveInt = Field(1, le=1024)
    nodes: PositiveInt = Field(1, le=65_536)
    # the next batches' ids and rows travel while one is trained; auto: with sharded tables on GPUs
    pipeline: Annotated[PipelineChoice, BeforeValidator(_from_yaml_switch)] = "auto"
    # batches whose gradients are summed before a step: refused, see below
    accumulate_batches: PositiveInt = 1
    # the folder of a finished run whose vectors are taken over, feature by feature, value by value
    warm_start: AbsolutePath | None = None
    # its dense network as well, where names and shapes agree
    warm_start_network: bool = True
    log_every_steps: PositiveInt = 50

    @model_validator(mode="after")
    def _can_be_done(self) -> Self:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("either train.epochs or train.steps, and not both")
        if self.accumulate_batches != 1:
            raise ValueError(
                "no train.accumulate_batches: tables are updated inside each backward, so no "
                "gradient waits to be summed (a larger data.global_batch_size is the same step)"
            )
        return self


class RetrievalReportConfig(BaseConfig):
    """Which rows judge what a model retrieves: those whose truth rests on enough counted rows.

    A target needs `min_target_rows`; a behaviour lacks support with fewer than `min_count` rows of
    either label; a row may have the share `max_unsupported` of such behaviours.
    """

    min_target_rows: NonNegativeInt = 700
    min_count: NonNegativeInt = 50
    max_unsupported: Annotated[float, Field(ge=0, le=1)] = 0.1


class ReportConfig(BaseConfig):
    """What the report shows beside its fixed parts."""

    # features whose values get an AUC each; null takes the three smallest with 3 to 50 ids
    slices: tuple[str, ...] | None = None
    retrieval: RetrievalReportConfig = RetrievalReportConfig()
