"""The allocation file: the methods that a search has chosen, for `recsys train`.

JSON for people; artifacts, such as the ids that keep a row, are in a safetensors file beside it. A
kept row is a row of the full table: with the same seed, training starts from the same values as the
search.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import AliasChoices, Field, TypeAdapter, ValidationError
from torch import Tensor

from recsys.config.base import BaseConfig
from recsys.embeddings.artifacts import Artifacts
from recsys.embeddings.methods import MethodConfig
from recsys.embeddings.methods.base import BaseMethodConfig
from recsys.embeddings.records import AllocationFacts, Score
from recsys.errors import RecsysError
from recsys.io.atomic import write_json
from recsys.io.paths import read_bytes, sha256_of
from recsys.schema import Schema

METHOD: TypeAdapter[MethodConfig] = TypeAdapter(MethodConfig)


class FeatureAllocation(BaseConfig):
    """The method chosen for one feature, its bytes, and the reason.

    `embedding` is the config of the method, of any kind, without its artifacts. `read_by`: the
    features that share its table.
    """

    cardinality: int
    kept_rows: int
    dims: tuple[int, ...]
    bytes: int
    full_bytes: int
    why: dict[str, Any]
    embedding: dict[str, Any]
    read_by: tuple[str, ...] = ()


class Allocation(BaseConfig):
    """The methods that a search has chosen, and the dataset and model that they are for.

    Format 1 had no artifacts but kept ids.
    """

    format: Literal[1, 2] = 2
    method: str
    dataset: str
    fingerprint: str
    model: dict[str, Any]
    seed: int
    max_bytes: int | None
    bytes: int
    full_bytes: int
    supernet: Score
    chosen: Score
    features: dict[str, FeatureAllocation]
    artifacts_file: str | None = Field(
        default=None, validation_alias=AliasChoices("artifacts_file", "kept_file")
    )
    artifacts_sha256: str | None = Field(
        default=None, validation_alias=AliasChoices("artifacts_sha256", "kept_sha256")
    )


_STORED_FACTS = ("method", "bytes", "full_bytes", "supernet", "chosen")


def save_allocation(
    allocation: Allocation, artifacts: Mapping[str, Tensor], path: Path
) -> Allocation:
    """Writes the artifacts, named `feature/tensor`, and then the JSON that names their file."""
    if artifacts:
        file = path.with_name(f"{path.stem}.artifacts.safetensors")
        digest = Artifacts.save(artifacts, file).sha256
        allocation = allocation.model_copy(
            update={"artifacts_file": file.name, "artifacts_sha256": digest}
        )
    write_json(path, allocation.model_dump(mode="json"))
    return allocation


def allocated_methods(
    path: Path, schema: Schema, model: dict[str, Any]
) -> tuple[dict[str, BaseMethodConfig], AllocationFacts]:
    """Each feature's method and the facts to store; refuses another dataset or model."""
    allocation, methods = load_allocation(path)
    if allocation.fingerprint != schema.fingerprint():
        raise RecsysError(
            "the allocation was made for another dataset",
            where=path,
            expected=f"{schema.name}, fingerprint {schema.fingerprint()[:12]}",
            got=f"{allocation.dataset}, fingerprint {allocation.fingerprint[:12]}",
            fix="run `recsys search` on this dataset",
        )
    for key in sorted(model.keys() | allocation.model.keys()):
        if model.get(key) != allocation.model.get(key):
            raise RecsysError(
                "the allocation was made for another model",
                where=path,
                expected=f"model.{key}: {allocation.model.get(key)}",
                got=model.get(key),
                fix="run `recsys search` with this model, or train the one it was made for",
            )
    facts = AllocationFacts(
        file=str(path.absolute()),
        sha256=sha256_of(path),
        **{name: getattr(allocation, name) for name in _STORED_FACTS},
    )
    return methods, facts


def load_allocation(path: Path) -> tuple[Allocation, dict[str, BaseMethodConfig]]:
    """The file, and each feature's method with a reference to its artifacts."""
    try:
        content = read_bytes(path)
        allocation = Allocation.model_validate_json(content)
        methods: dict[str, BaseMethodConfig] = {
            name: METHOD.validate_python(feature.embedding)
            for name, feature in allocation.features.items()
        }
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise RecsysError(
            f"allocation {path} not found",
            where="embeddings.allocation",
            fix="run `recsys search CONFIG --out DIR`; it writes DIR/allocation.json",
        ) from None
    except (OSError, ValidationError, UnicodeDecodeError) as error:
        raise RecsysError(
            "the allocation is damaged, or was written by another version",
            where=path,
            got=str(error).splitlines()[0],
            fix="run `recsys search` again",
        ) from None
    if allocation.artifacts_file is None or allocation.artifacts_sha256 is None:
        return allocation, methods
    file = path.parent / Path(allocation.artifacts_file).name
    artifacts = Artifacts(file=file, sha256=allocation.artifacts_sha256)
    for name in artifacts.features() & methods.keys():
        methods[name] = methods[name].model_copy(update={"artifacts": artifacts})
    return allocation, methods
