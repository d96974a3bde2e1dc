"""The base of every config class: a frozen value that refuses unknown keys."""

from pydantic import BaseModel, ConfigDict


class BaseConfig(BaseModel):
    """Configs are values: changed with `model_copy(update=…)`, never in place."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
