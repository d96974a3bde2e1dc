"""Reads the YAML of configs, and applies overrides from a command line."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recsys.errors import RecsysError, shorten
from recsys.io.paths import read_text
from recsys.io.plain_data import MAX_DEPTH, parse_yaml

YamlDict = dict[str, Any]


def read_yaml(path: Path) -> YamlDict:
    """Reads one YAML file as a dict; duplicate keys are errors."""
    try:
        text = read_text(path)
    except FileNotFoundError:
        raise RecsysError(f"config file {path} not found") from None
    except (PermissionError, NotADirectoryError) as error:
        raise RecsysError(f"the config file {path} cannot be read", got=str(error)) from None
    content = parse_yaml(text, str(path))
    if not isinstance(content, dict):
        raise RecsysError(f"{path} is not a config", expected="`key: value` lines")
    return content


def apply_overrides(content: YamlDict, overrides: Sequence[str]) -> YamlDict:
    """Returns a copy of the content with each `section.key=value` set; values are YAML."""
    content = copy.deepcopy(content)
    for override in overrides:
        dotted, equals, text = override.partition("=")
        if not equals or not dotted:
            raise RecsysError(
                f"invalid override {shorten(override)!r}",
                expected="section.key=value",
                fix="repeat an option that takes several values: --raw A --raw B",
            )
        *parents, last = dotted.split(".")
        if len(parents) >= MAX_DEPTH:
            raise RecsysError(
                "the override is nested too deeply",
                where=shorten(dotted),
                expected=f"at most {MAX_DEPTH} levels",
            )
        node = content
        for key in parents:
            if not isinstance(node.setdefault(key, {}), dict):
                node[key] = {}
            node = node[key]
        node[last] = parse_yaml(text, shorten(dotted))
    return content
