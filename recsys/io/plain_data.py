"""Reads YAML and JSON text from users and strangers: every size is bounded, no key is duplicate.

Configs and artifacts hold little text. Whatever is larger than the bounds here is a mistake or an
attack (deep nesting, integers of thousands of digits, aliases that expand to billions of values),
and is refused with a message instead of a traceback or an endless wait.
"""

import json
from collections.abc import Iterator
from typing import Any

import yaml

from recsys.errors import RecsysError, shorten

MAX_DEPTH = 32  # the deepest key of a run config is at depth 7
MAX_VALUES = 1_000_000  # aliases count as often as they are used
MAX_INTEGER = 2**63 - 1
MAX_JSON_INTEGER = 2**128  # of random generators' states

# What PyYAML's constructors raise on scalars that do not fit their tag, such as `2020-99-99`,
# `!!int ''`, `!!bool maybe`, `!!timestamp x` or an integer of more than 4,300 digits.
_CONSTRUCTOR_ERRORS = (ValueError, KeyError, IndexError, AttributeError, TypeError, OverflowError)


class _UniqueKeyLoader(yaml.SafeLoader):
    """PyYAML silently keeps the last of two equal keys; here duplicate keys are errors."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[str, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str | int | float | bool | None):
                raise _at(key_node, f"a key must be text, got {type(key).__name__}")
            if key in seen:
                raise _at(node, f"duplicate key {key!r}")
            seen.add(key)
        return super().construct_mapping(node, deep)


def _at(node: yaml.Node, problem: str) -> yaml.constructor.ConstructorError:
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


def parse_yaml(text: str, where: str) -> Any:  # noqa: ANN401  YAML holds any plain value
    """Parses one YAML document into dicts, lists and scalars.

    Args:
        text: the document.
        where: the file or command-line key, for messages.

    Raises:
        RecsysError: for invalid YAML, duplicate keys, and values outside the bounds above.
    """
    try:
        content = yaml.load(text, _UniqueKeyLoader)
    except yaml.YAMLError as error:
        raise RecsysError("invalid YAML", where=where, got=" ".join(str(error).split())) from None
    except RecursionError:
        raise _too_deep(where) from None
    except _CONSTRUCTOR_ERRORS as error:
        raise RecsysError("invalid YAML value", where=where, got=shorten(str(error))) from None
    check_bounds(content, where)
    return content


def parse_json(text: str | bytes, where: str) -> Any:  # noqa: ANN401  JSON holds any plain value
    """Parses JSON into dicts, lists and scalars.

    Raises:
        RecsysError: for invalid JSON, and values outside the bounds above.
    """
    try:
        content = json.loads(text)
    except RecursionError:
        raise _too_deep(where) from None
    except ValueError as error:  # of which UnicodeDecodeError and JSONDecodeError are kinds
        raise RecsysError("invalid JSON", where=where, got=shorten(str(error))) from None
    check_bounds(content, where, MAX_JSON_INTEGER)
    return content


def check_bounds(content: object, where: str, max_integer: int = MAX_INTEGER) -> None:
    """Refuses plain data that is nested too deeply, has too many values or a huge integer.

    Raises:
        RecsysError: names the key of the first value outside the bounds.
    """
    pending: list[tuple[tuple[object, ...], object]] = [((), content)]
    values = 0
    while pending:
        path, value = pending.pop()
        values += 1
        key = ".".join(map(str, path)) or "top level"
        if len(path) > MAX_DEPTH:
            raise _too_deep(where)
        if values > MAX_VALUES:
            raise RecsysError("too many values", where=where, expected=f"at most {MAX_VALUES:,}")
        if isinstance(value, int) and abs(value) > max_integer:
            raise RecsysError(
                "the integer is too large",
                where=f"{where}: {shorten(key)}",
                expected=f"an integer of at most {max_integer.bit_length() + 1} bits",
                got=f"one of {value.bit_length()} bits",
            )
        pending.extend(((*path, name), item) for name, item in _children(value))


def _children(value: object) -> Iterator[tuple[object, object]]:
    if isinstance(value, dict):
        yield from value.items()
    elif isinstance(value, list | tuple | set):
        yield from enumerate(value)


def _too_deep(where: str) -> RecsysError:
    return RecsysError(
        "values are nested too deeply", where=where, expected=f"at most {MAX_DEPTH} levels"
    )
