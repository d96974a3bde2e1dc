"""RunConfig: one YAML file is one complete run."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import model_validator

from recsys.config.base import BaseConfig, validate
from recsys.config.search import SearchConfig
from recsys.config.train import ReportConfig, TrainConfig
from recsys.config.yaml_files import apply_overrides, read_yaml
from recsys.data.config import DataConfig
from recsys.embeddings.allocation import allocated_methods
from recsys.embeddings.config import EmbeddingsConfig
from recsys.embeddings.methods.base import FittedMethodConfig
from recsys.embeddings.old_keys import has_old_keys, hint
from recsys.embeddings.records import AllocationFacts
from recsys.errors import RecsysError
from recsys.io.atomic import write_text
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
    # what `embeddings.allocation: FILE` was turned into, beside `embeddings.features`
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
    def _roles_are_those_of_the_model(self) -> Self:
        asked = getattr(self.model, "attention", "refused")
        wanted = ["search"] if asked == "required" else []
        for role in wanted:
            if role not in self.embeddings.roles:
                raise RecsysError(
                    f"embeddings.roles.{role} is missing: {self.model.name} searches by embeddings "
                    "of their own",
                    where="embeddings.roles",
                    fix=f"add {role}: {{default: {{method: full_table, embedding_dim: 16}}}}",
                )
        for role in self.embeddings.roles:
            if role not in wanted:
                raise RecsysError(
                    f"{self.model.name} reads no embeddings of the role {role!r}",
                    where=f"embeddings.roles.{role}",
                    expected=", ".join(wanted) or "no embeddings.roles (dare reads search)",
                )
        return self


def load_config(path: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Reads a YAML file, applies `section.key=value` overrides, checks everything.

    `embeddings.allocation: FILE` is replaced by the methods in the file, so that a run can be
    rebuilt from its own folder.
    """
    content = apply_overrides(read_yaml(path), overrides)
    if has_old_keys(content.get("embeddings")):
        print(hint(content["embeddings"]), file=sys.stderr)  # noqa: T201  a line for the user
    return _resolve(content, path)


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


def _method_sections(embeddings: object) -> Iterator[dict[str, Any]]:
    """The method configs of an `embeddings` section and of its roles."""
    if not isinstance(embeddings, dict):
        return
    entries = [embeddings.get("default")]
    for key in ("features", "per_feature", "roles"):
        entries += embeddings[key].values() if isinstance(embeddings.get(key), dict) else ()
    entries.append(embeddings.get("attention"))
    for entry in (entry for entry in entries if isinstance(entry, dict)):
        yield entry
        yield from _method_sections(entry)


def _resolve(content: dict[str, Any], path: Path) -> RunConfig:
    embeddings = content.get("embeddings")
    for method in _method_sections(embeddings):
        if isinstance(method.get("artifacts"), dict) and "file" in method["artifacts"]:
            method["artifacts"]["file"] = str(path.parent / str(method["artifacts"]["file"]))
    allocation = embeddings.pop("allocation", None) if isinstance(embeddings, dict) else None
    config = validate(RunConfig, content, str(path))
    if allocation is None:
        return config
    schema, model = config.data.load_schema(), config.model.model_dump(mode="json")
    found, facts = allocated_methods(Path(str(allocation)), schema, model)
    resolved = config.embeddings.with_features({n: {"method": m} for n, m in found.items()})
    return config.model_copy(update={"embeddings": resolved, "allocation": facts})


def dump_config(config: RunConfig) -> str:
    """The resolved config as YAML that `load_config` reads back to an equal value."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def save_config(config: RunConfig, folder: Path, name: str) -> None:
    """Writes the resolved config, and before it the artifacts that its methods read."""
    changes: dict[str, dict[str, object]] = {}
    for feature, entry in config.embeddings.features.items():
        method = entry.method
        if isinstance(method, FittedMethodConfig) and method.artifacts is not None:
            copy = {"artifacts": method.artifacts.copied_to(folder)}
            changes[feature] = {"method": method.model_copy(update=copy)}
    embeddings = config.embeddings.with_features(changes)
    write_text(folder / name, dump_config(config.model_copy(update={"embeddings": embeddings})))
