"""RunConfig: one YAML file is one complete run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import yaml
from pydantic import model_validator

from recsys.base_config import BaseConfig, apply_overrides, read_yaml, validate
from recsys.data.config import DataConfig
from recsys.embeddings.config import EmbeddingsConfig
from recsys.models import ModelConfig
from recsys.train_config import ReportConfig, TrainConfig


class RunConfig(BaseConfig):
    """Data, embeddings, model, training, report."""

    data: DataConfig
    embeddings: EmbeddingsConfig
    model: ModelConfig
    train: TrainConfig
    report: ReportConfig = ReportConfig()

    @model_validator(mode="after")
    def _clipping_reaches_all(self) -> Self:
        if self.train.gradient_clip_norm is not None and self.embeddings.store == "fused":
            raise ValueError(
                "no train.gradient_clip_norm with embeddings.store fused: its tables are updated "
                "inside backward, before a norm is known (use store plain, or drop the key)"
            )
        return self


def load_config(path: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Reads a YAML file, applies `section.key=value` overrides, checks everything."""
    return validate(RunConfig, apply_overrides(read_yaml(path), overrides), str(path))


def dump_config(config: RunConfig) -> str:
    """The resolved config as YAML that `load_config` reads back to an equal value."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
