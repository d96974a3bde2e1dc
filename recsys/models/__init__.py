"""THE LIST of models: add a model's config here and it can be named in YAML."""

from typing import Annotated

from pydantic import Field

from recsys.models.autoint import AutoIntConfig
from recsys.models.dcn_v2 import DCNv2Config
from recsys.models.logistic_regression import LogisticRegressionConfig

ModelConfig = Annotated[
    LogisticRegressionConfig | DCNv2Config | AutoIntConfig, Field(discriminator="name")
]
