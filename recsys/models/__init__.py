"""THE LIST of models: a config class that is added here can be named in YAML."""

from typing import Annotated

from pydantic import Field

from recsys.models.autoint import AutoIntConfig
from recsys.models.dcn_v2 import DCNv2Config
from recsys.models.din import DINConfig
from recsys.models.logistic_regression import LogisticRegressionConfig
from recsys.models.mean_pooling import MeanPoolingConfig
from recsys.models.two_stage import DAREConfig, SIMHardConfig, TWINConfig

ModelConfig = Annotated[
    LogisticRegressionConfig
    | DCNv2Config
    | AutoIntConfig
    # models of histories
    | MeanPoolingConfig
    | DINConfig
    | SIMHardConfig
    | TWINConfig
    | DAREConfig,
    Field(discriminator="name"),
]
