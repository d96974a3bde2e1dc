"""Artifacts: tensors that a method has fitted beside its rows, such as kept ids, codes, clusters.

They are stored in a safetensors file beside an allocation, and in the folder of each run that
trains it. A config refers to the file and its sha256, so that two runs of the same content have
equal configs wherever their folders are.
"""

import functools
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from recsys.config.base import AbsolutePath, BaseConfig
from recsys.errors import RecsysError
from recsys.io.atomic import atomic_write
from recsys.io.paths import file_inside, regular_file, sha256_of


class Artifacts(BaseConfig):
    """A file of fitted tensors, each named `feature/tensor`."""

    file: AbsolutePath
    """written by `recsys search`; in a YAML file, relative to its folder"""
    sha256: str
    """of the file's content"""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Artifacts) and self.sha256 == other.sha256

    def __hash__(self) -> int:
        return hash(self.sha256)

    @classmethod
    def save(cls, tensors: Mapping[str, torch.Tensor], path: Path) -> Self:
        """Writes the tensors, all on the CPU, whole or not at all."""
        with atomic_write(path) as partial:
            save_file({name: value.contiguous() for name, value in tensors.items()}, partial)
        return cls(file=path, sha256=sha256_of(path))

    def copied_to(self, folder: Path) -> Self:
        """The same content as a file in `folder`, with a path relative to it."""
        copy = folder / f"artifacts-{self.sha256[:8]}.safetensors"
        if not copy.is_file() or sha256_of(copy) != self.sha256:
            with atomic_write(copy) as partial:
                shutil.copyfile(_verified(self.file, self.sha256), partial)
        return self.model_copy(update={"file": Path(copy.name)})

    def features(self) -> set[str]:
        """The features that have tensors in the file."""
        return {name.rpartition("/")[0] or name for name in _names(self)}

    def load(self, feature: str) -> dict[str, torch.Tensor]:
        """A feature's tensors by name, on the CPU.

        Raises:
            RecsysError: the file is missing, damaged, or has another content than the config says.
        """
        prefix = f"{feature}/"
        chosen = {n: n.removeprefix(prefix) for n in _names(self) if n.startswith(prefix)}
        if feature in _names(self):  # the former format: kept ids and nothing else
            chosen[feature] = "kept"
        with safe_open(self.file, "pt") as content:
            return {name: content.get_tensor(full) for full, name in chosen.items()}


@functools.cache
def _verified(file: Path, sha256: str) -> Path:
    """The file, once its content was compared with the checksum."""
    try:
        path = file_inside(file.parent, file.name)
        if sha256_of(regular_file(path)) == sha256:
            return path
    except OSError as error:
        raise RecsysError("the artifacts cannot be read", where=file, got=str(error)) from None
    raise RecsysError(
        "the artifacts are not those that the config or allocation names",
        where=file,
        expected=f"sha256 {sha256}",
        fix="copy both files together, or run `recsys search` again",
    )


def _names(artifacts: Artifacts) -> list[str]:
    try:
        with safe_open(_verified(artifacts.file, artifacts.sha256), "pt") as content:
            return list(content.keys())
    except (OSError, SafetensorError) as error:
        raise RecsysError(
            "the artifacts cannot be read", where=artifacts.file, got=str(error)
        ) from None
