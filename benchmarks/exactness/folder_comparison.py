"""Compares two folders byte for byte, but for the fields that hold times and memory.

`MAY_DIFFER` is the whole list of what a killed and resumed command may write differently from one
that nothing has interrupted; benchmarks/README.md explains each entry. Everything else counts: the
names of all files, hidden ones too, and every other byte.
"""

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

# Pattern of a file's path (its end) → the fields left out; None leaves out the file.
MAY_DIFFER: Mapping[str, tuple[str, ...] | None] = {
    "tensorboard/*": None,
    "report.html": None,
    "metrics.csv": ("samples_per_second",),
    "training.json": ("training.samples_per_second", "training.peak_rss_bytes"),
    "report.json": (
        "training.samples_per_second",
        "training.peak_rss_bytes",
        "learning_curves.samples_per_second",
    ),
    "checkpoints/step-*/state.json": (
        "callbacks.Speed.rows",
        "callbacks.Speed.seconds",
        "callbacks.MetricsLog.size",
    ),
    "checkpoints/step-*/SHA256SUMS": ("state.json",),
    "export/manifest.json": ("created", "parity.at"),
    "export/SHA256SUMS": ("manifest.json",),
}


def differences(first: Path, second: Path) -> list[str]:
    """Each file that is missing in one folder or has other content, relative; empty if equal."""
    names, others = _names(first), _names(second)
    missing = [f"{name} is in one folder only" for name in sorted(names ^ others)]
    unequal = [n for n in sorted(names & others) if _content(first, n) != _content(second, n)]
    return missing + unequal


def _names(folder: Path) -> set[str]:
    files = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir()}
    folders = {p.relative_to(folder).as_posix() + "/" for p in folder.rglob("*") if p.is_dir()}
    return {name for name in files | folders if _left_out(name) is not None}


def _left_out(name: str) -> tuple[str, ...] | None:
    """The fields of a file that are not compared; None if none of it is."""
    for pattern, fields in MAY_DIFFER.items():
        if PurePath(name).match(pattern):
            return fields
    return ()


def _content(folder: Path, name: str) -> object:
    """What is compared of a file."""
    path, fields = folder / name, _left_out(name)
    if path.is_dir():
        return None
    content = path.read_bytes()
    if not fields:
        return content
    if path.suffix == ".csv":
        rows = csv.DictReader(io.StringIO(content.decode()))
        return [{k: v for k, v in row.items() if k not in fields} for row in rows]
    if path.suffix == ".json":
        return _without(_plain(json.loads(content)), fields)
    return [line for line in content.decode().splitlines() if line.split("  ")[1] not in fields]


def _plain(value: Any) -> Any:
    """Nested dicts and lists; a checkpoint writes a dict as {"$items": [[key, value], …]}."""
    if isinstance(value, dict) and list(value) == ["$items"]:
        value = {str(key): item for key, item in value["$items"]}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _without(content: Any, fields: tuple[str, ...]) -> Any:
    """The content without fields named by dotted paths; a path goes through every item of lists."""
    for field in fields:
        _remove(content, field.split("."))
    return content


def _remove(node: Any, path: list[str]) -> None:
    if isinstance(node, list):
        for item in node:
            _remove(item, path)
    elif len(path) == 1:
        node.pop(path[0], None)
    elif path[0] in node:
        _remove(node[path[0]], path[1:])
