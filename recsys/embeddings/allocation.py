"""The allocation file: what a search has found, and what `recsys train` trains anew.

JSON for people; the ids that keep a row, where they are no plain range, stand in a safetensors file
beside it. A kept row is a row of the full table: training starts from the values that the search
started from, where the seed is the same.
"""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from recsys.config.base import BaseConfig
from recsys.embeddings.id_mapping.id_bitmap import pack_bits
from recsys.embeddings.methods.pruned import PrunedConfig
from recsys.embeddings.records import AllocationFacts, Score
from recsys.errors import RecsysError
from recsys.io.atomic import atomic_write, write_json
from recsys.io.checksums import sha256_of
from recsys.io.paths import file_inside, read_bytes, regular_file
from recsys.schema import Schema

FORMAT_VERSION = 1
KEPT_FILE_SUFFIX = ".kept.safetensors"


class FeatureAllocation(BaseConfig):
    """One feature's rows and columns, what they weigh, and why they were chosen.

    `embedding` is its method; its kept ids stand in the safetensors file where `kept_rows` differ
    from the cardinality. Features that share its table are named in `read_by`.
    """

    cardinality: int
    kept_rows: int
    dims: tuple[int, ...]
    bytes: int
    full_bytes: int
    why: dict[str, Any]
    embedding: PrunedConfig
    read_by: tuple[str, ...] = ()


class Allocation(BaseConfig):
    """What a search has found, and for what it was found."""

    format: Literal[1] = 1
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
    kept_file: str | None = None
    kept_sha256: str | None = None


_REMEMBERED = ("method", "bytes", "full_bytes", "supernet", "chosen")


def save_allocation(allocation: Allocation, kept: dict[str, torch.Tensor], path: Path) -> None:
    """Writes the kept ids, (V,) bool by feature, and then the JSON that names their file."""
    kept_path = path.with_name(path.stem + KEPT_FILE_SUFFIX)
    if kept:
        bits = {n: torch.from_numpy(np.packbits(k.numpy())) for n, k in kept.items()}
        with atomic_write(kept_path) as partial:
            save_file(bits, partial)
        digest = sha256_of(kept_path)
        allocation = allocation.model_copy(
            update={"kept_file": kept_path.name, "kept_sha256": digest}
        )
    write_json(path, allocation.model_dump(mode="json"))


def allocated_methods(
    path: Path, schema: Schema, model: dict[str, Any]
) -> tuple[dict[str, PrunedConfig], AllocationFacts]:
    """Each feature's method and what to remember; refused for other rows or another model."""
    allocation, methods = load_allocation(path)
    if allocation.fingerprint != schema.fingerprint():
        raise RecsysError(
            "the allocation was made for another data set",
            where=path,
            expected=f"{schema.name}, fingerprint {schema.fingerprint()[:12]}",
            got=f"{allocation.dataset}, fingerprint {allocation.fingerprint[:12]}",
            fix="run `recsys search` on this data set",
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
        **{name: getattr(allocation, name) for name in _REMEMBERED},
    )
    return methods, facts


def load_allocation(path: Path) -> tuple[Allocation, dict[str, PrunedConfig]]:
    """The file, and each feature's method with its kept ids filled in."""
    try:
        content = read_bytes(path)
        allocation = Allocation.model_validate_json(content)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise RecsysError(
            f"there is no allocation {path}",
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
    bits = _load_kept(allocation, path)
    methods = {}
    for name, feature in allocation.features.items():
        method = feature.embedding
        if name in bits:
            method = method.model_copy(update={"kept": pack_bits(bits[name])})
        methods[name] = method
    return allocation, methods


def _load_kept(allocation: Allocation, path: Path) -> dict[str, torch.Tensor]:
    if allocation.kept_file is None:
        return {}
    kept_path = path.parent / Path(allocation.kept_file).name
    try:
        if sha256_of(regular_file(kept_path)) != allocation.kept_sha256:
            raise RecsysError(
                "the kept ids are not those of the allocation",
                where=kept_path,
                expected=f"sha256 {allocation.kept_sha256}",
                fix="copy both files together, or run `recsys search` again",
            )
        return load_file(file_inside(path.parent, kept_path.name))
    except (OSError, SafetensorError) as error:
        raise RecsysError("the kept ids cannot be read", where=kept_path, got=str(error)) from None
