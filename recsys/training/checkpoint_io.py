"""Checkpoints without pickle: tensors in safetensors, everything else in JSON, checksums beside.

A checkpoint is a folder that appears under its name only when it is whole.
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any

from lightning.pytorch.plugins.io import CheckpointIO
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from recsys.checksums import verify_checksums, write_checksums
from recsys.errors import RecsysError

TENSORS_FILE, STATE_FILE = "tensors.safetensors", "state.json"


class SafetensorsCheckpointIO(CheckpointIO):
    """Lightning's checkpoint dict ↔ a folder."""

    def save_checkpoint(
        self,
        checkpoint: dict[str, Any],
        path: str | Path,
        storage_options: object = None,
    ) -> None:
        """Writes the folder beside its name, then renames it over an older one."""
        final = Path(path)
        partial, old = (
            final.with_name(f".{final.name}.{os.getpid()}.{end}") for end in ("partial", "old")
        )
        try:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            write_state(checkpoint, partial)
            write_checksums(partial)
            if final.exists():
                final.rename(old)
            partial.rename(final)
            shutil.rmtree(old, ignore_errors=True)
        except (OSError, SafetensorError) as error:
            shutil.rmtree(partial, ignore_errors=True)
            raise RecsysError(
                "the checkpoint could not be written",
                where=final,
                got=str(error),
                fix="free space or choose another --out, then continue with --resume",
            ) from None

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: object = None,
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """Reads a folder; a damaged one is refused."""
        verify_checksums(Path(path))
        return read_state(Path(path))

    def remove_checkpoint(self, path: str | Path) -> None:
        shutil.rmtree(path, ignore_errors=True)


def write_state(state: dict[str, Any], folder: Path) -> None:
    """A nested dict of plain values and tensors → two files."""
    tensors: dict[str, Tensor] = {}
    plain = _take_tensors(state, "", tensors)
    save_file(tensors, folder / TENSORS_FILE)
    (folder / STATE_FILE).write_text(json.dumps(plain))


def read_state(folder: Path) -> dict[str, Any]:
    """The inverse of `write_state`."""
    try:
        tensors = load_file(folder / TENSORS_FILE)
        plain = json.loads((folder / STATE_FILE).read_text())
    except (SafetensorError, ValueError) as error:
        raise RecsysError("the checkpoint is damaged", where=folder, got=str(error)) from None
    return _put_tensors(plain, tensors)


def _take_tensors(value: object, path: str, tensors: dict[str, Tensor]) -> object:
    """JSON knows no tensors, tuples or integer keys: each is marked by a one-key dict."""
    if isinstance(value, Tensor):
        tensors[path] = value.detach().contiguous().clone()
        return {"$tensor": path}
    if isinstance(value, dict):
        return {
            "$items": [
                [key, _take_tensors(item, f"{path}/{key}", tensors)] for key, item in value.items()
            ]
        }
    if isinstance(value, list | tuple):
        items = [_take_tensors(item, f"{path}/{i}", tensors) for i, item in enumerate(value)]
        return {"$tuple": items} if isinstance(value, tuple) else items
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise TypeError(f"{path} holds a {type(value).__name__}, which a checkpoint cannot keep")


def _put_tensors(value: Any, tensors: dict[str, Tensor]) -> Any:  # noqa: ANN401  any JSON value
    if isinstance(value, list):
        return [_put_tensors(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    ((mark, content),) = value.items()
    if mark == "$tensor":
        return tensors[content]
    if mark == "$tuple":
        return tuple(_put_tensors(item, tensors) for item in content)
    return {key: _put_tensors(item, tensors) for key, item in content}


def save_weights(state_dict: dict[str, Tensor], folder: Path) -> None:
    """Weights alone, for evaluation and export, as a whole folder."""
    SafetensorsCheckpointIO().save_checkpoint({"state_dict": dict(state_dict)}, folder)


def load_weights(folder: Path) -> dict[str, Tensor]:
    """The state dict in a checkpoint folder of either kind."""
    weights: dict[str, Tensor] = SafetensorsCheckpointIO().load_checkpoint(folder)["state_dict"]
    return weights
