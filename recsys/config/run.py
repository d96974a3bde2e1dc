"""RunConfig: one YAML file is one complete run."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import model_validator

from recsys.config.base import BaseConfig, apply_overrides, read_yaml, validate
from recsys.config.search import SearchConfig
from recsys.config.train import ReportConfig, TrainConfig
from recsys.data.config import DataConfig
from recsys.embeddings.allocation import AllocationFacts, allocated_methods
from recsys.embeddings.config import EmbeddingsConfig
from recsys.errors import RecsysError
from recsys.io.paths import file_inside
from recsys.models import ModelConfig


class RunConfig(BaseConfig):
    """Data, embeddings, model, training, report; and how `recsys search` chooses embeddings."""

    data: DataConfig
    embeddings: EmbeddingsConfig
    model: ModelConfig  # the model and its options
    train: TrainConfig
    report: ReportConfig = ReportConfig()
    # how `recsys search` chooses rows and columns; not used by others
    search: SearchConfig | None = None
    # what `embeddings.allocation: FILE` was turned into, beside `embeddings.per_feature`
    allocation: AllocationFacts | None = None

    @model_validator(mode="after")
    def _clipping_reaches_all(self) -> Self:
        if self.train.gradient_clip_norm is not None and self.embeddings.store == "fused":
            raise ValueError(
                "no train.gradient_clip_norm with embeddings.store fused: its tables are updated "
                "inside backward, before a norm is known (use store plain, or drop the key)"
            )
        return self

    @model_validator(mode="after")
    def _attention_has_its_embeddings(self) -> Self:
        asked = getattr(self.model, "attention", "refused")
        if asked == "required" and self.embeddings.attention is None:
            raise ValueError(
                f"embeddings.attention, which {self.model.name} needs: the embeddings by which it "
                "searches, such as {default: {method: full_table, embedding_dim: 16}}"
            )
        if asked == "refused" and self.embeddings.attention is not None:
            raise ValueError(
                f"no embeddings.attention: {self.model.name} has nothing that would read them "
                "(dare does)"
            )
        return self


def load_config(path: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Reads a YAML file, applies `section.key=value` overrides, checks everything.

    `embeddings.allocation: FILE` stands for the methods that a search found; they take its place,
    so that a run can be rebuilt from its own folder.
    """
    return _resolve(apply_overrides(read_yaml(path), overrides), path)


def load_stored_config(path: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """The config of a run folder, which `dump_config` wrote, with overrides.

    A key that it lacks is younger than the run: it gets the value that the run was trained with.
    """
    try:
        content = read_yaml(file_inside(path.parent, path.name))
    except FileNotFoundError:
        raise RecsysError(f"config file {path} not found") from None
    for method in _method_sections(content.get("embeddings")):
        if method.get("method") == "hashed":
            method.setdefault("salts", "common")
    return _resolve(apply_overrides(content, overrides), path)


def _method_sections(embeddings: object) -> Iterator[dict[str, object]]:
    """The method configs of an `embeddings` section and of its `attention`."""
    if not isinstance(embeddings, dict):
        return
    per_feature = embeddings.get("per_feature")
    others = per_feature.values() if isinstance(per_feature, dict) else ()
    yield from (
        method for method in (embeddings.get("default"), *others) if isinstance(method, dict)
    )
    yield from _method_sections(embeddings.get("attention"))


def _resolve(content: dict[str, Any], path: Path) -> RunConfig:
    embeddings = content.get("embeddings")
    allocation = embeddings.pop("allocation", None) if isinstance(embeddings, dict) else None
    config = validate(RunConfig, content, str(path))
    if allocation is None:
        return config
    schema, model = config.data.load_schema(), config.model.model_dump(mode="json")
    found, facts = allocated_methods(Path(str(allocation)), schema, model)
    per_feature = {**config.embeddings.per_feature, **found}
    resolved = config.embeddings.model_copy(update={"per_feature": per_feature})
    return config.model_copy(update={"embeddings": resolved, "allocation": facts})


def dump_config(config: RunConfig) -> str:
    """The resolved config as YAML that `load_config` reads back to an equal value."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
