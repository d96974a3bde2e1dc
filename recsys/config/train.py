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
from recsys.embeddings.optimizers import TableOptimizer
from recsys.metrics import METRICS, SupportRule


def _from_yaml_switch(value: object) -> object:
    """YAML reads a bare `on` or `off` as a boolean."""
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else value


PipelineChoice = Literal["auto", "on", "off"]


class TrainConfig(BaseConfig):
    """How long and how the model is trained."""

    dense_optimizer: DenseOptimizerConfig  # of everything except the embedding tables
    embedding_optimizer: TableOptimizer  # of the embedding tables
    epochs: PositiveInt | None = None  # passes over the train rows; either this or steps
    steps: PositiveInt | None = None  # optimizer steps; either this or epochs
    seed: NonNegativeInt = 0  # of initial weights, row order, dropout
    # the metric on the valid rows that chooses the best weights
    monitor: Annotated[str, NameIn(METRICS)] = "auc"
    # factor on all learning rates after `plateau_patience` validations without improvement
    plateau_factor: float = Field(0.1, gt=0, le=1)
    plateau_patience: PositiveInt = 1  # validations
    # validations without improvement that end training; null: never
    early_stopping_patience: PositiveInt | None = 2
    validate_every_steps: PositiveInt | None = None  # null: at the end of each epoch
    checkpoint_every_steps: PositiveInt | None = None  # null: only at the end of each epoch
    keep_checkpoints: PositiveInt = 2  # number of latest checkpoints kept, beside the best
    # global norm, of dense parameters and plain tables; refused with fused tables; null: no
    # clipping
    gradient_clip_norm: PositiveFloat | None = None
    precision: Literal["fp32", "bf16"] = "fp32"  # bf16: autocast of the network
    device: Literal["auto", "cpu", "cuda"] = "auto"  # auto: cuda if available
    # processes on each machine, one device each; they share the global batch
    devices: PositiveInt = Field(1, le=1024)
    nodes: PositiveInt = Field(1, le=65_536)  # machines
    # transfer the next batches while one is trained; auto: with sharded tables on GPUs
    pipeline: Annotated[PipelineChoice, BeforeValidator(_from_yaml_switch)] = "auto"
    accumulate_batches: PositiveInt = 1  # only 1: tables are updated in every backward pass
    # folder of a finished run; the vectors of feature values that both runs know are copied
    warm_start: AbsolutePath | None = None
    warm_start_network: bool = True  # copy the dense network too, if names and shapes agree
    log_every_steps: PositiveInt = 50  # steps between rows of metrics.csv

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


class ReportConfig(BaseConfig):
    """Options of the report."""

    # features whose values get an AUC each; null: the three smallest with 3 to 50 ids
    slices: tuple[str, ...] | None = None
    # which rows judge what a model of histories retrieves
    retrieval: SupportRule = SupportRule()
