"""The part of a checkpoint that is equal on every rank: nested plain values and tensors."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, cast

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from recsys.errors import RecsysError
from recsys.io.atomic import sync
from recsys.io.paths import file_inside, read_bytes
from recsys.io.plain_data import parse_json
from recsys.training.checkpoint.table_storage import copy_to_cpu

TENSORS_FILE, STATE_FILE = "tensors.safetensors", "state.json"


@dataclass(frozen=True)
class ReplicatedState:
    """A nested dict as JSON that names tensors, and copies of those tensors."""

    plain: str
    tensors: dict[str, Tensor]

    @classmethod
    def copy_of(cls, state: dict[str, Any]) -> Self:
        """Splits a nested dict into JSON and tensors; raises TypeError for any other value."""
        tensors: dict[str, Tensor] = {}
        plain = _take_tensors(state, "", tensors)
        return cls(json.dumps(plain), tensors)


def write_state(state: ReplicatedState, folder: Path) -> None:
    """Writes two files: the tensors, and the rest as JSON."""
    save_file(state.tensors, folder / TENSORS_FILE)
    (folder / STATE_FILE).write_text(state.plain)
    for name in (TENSORS_FILE, STATE_FILE):
        sync(folder / name)


def read_state(folder: Path) -> dict[str, Any]:
    """Reads the nested dict of a folder."""
    try:
        tensors = load_file(file_inside(folder, TENSORS_FILE))
        path = file_inside(folder, STATE_FILE)
        plain = _parse(read_bytes(path), path)
        state = _put_tensors(plain, tensors)
    except (OSError, SafetensorError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise RecsysError("the checkpoint is damaged", where=folder, got=str(error)) from None
    weights = state.get("state_dict") if isinstance(state, dict) else None
    if not isinstance(weights, dict) or not all(
        isinstance(name, str) and isinstance(weight, Tensor) for name, weight in weights.items()
    ):
        raise RecsysError("the checkpoint is damaged", where=folder, got="no weights in it")
    return cast(dict[str, Any], state)


def _parse(content: bytes, path: Path) -> Any:  # noqa: ANN401  any JSON value
    try:
        return parse_json(content, str(path))
    except RecsysError as error:
        got = " ".join(str(error).split())
        raise RecsysError("the checkpoint is damaged", where=path, got=got) from None


def _take_tensors(value: object, path: str, tensors: dict[str, Tensor]) -> object:
    """JSON has no tensors, tuples or integer keys: each becomes a dict with one marker key."""
    if isinstance(value, Tensor):
        tensors[path] = copy_to_cpu(value)
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
