"""The base of every config class, and how a config is read from YAML with overrides.

A config is a value: frozen, unknown keys are errors, and every error names the key, what was
expected, what came and the nearest known key.
"""

import copy
import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationError,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from recsys.errors import RecsysError, did_you_mean
from recsys.io.paths import read_text
from recsys.io.plain_data import MAX_DEPTH, parse_yaml, shorten


class BaseConfig(BaseModel):
    """Configs are values: changed with `model_copy(update=…)`, never in place."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class NameIn:
    """Annotates a str that must be a key of `entries`, which may grow after the class is made."""

    def __init__(self, entries: Mapping[str, object]) -> None:
        self.entries = entries

    def __get_pydantic_core_schema__(
        self, source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {**handler(schema), "enum": list(self.entries)}

    def _check(self, name: str) -> str:
        if name not in self.entries:
            raise PydanticCustomError("unknown_name", "unknown name", {"known": [*self.entries]})
        return name


Config = TypeVar("Config", bound=BaseConfig)
# Relative to the folder where the config is first read; written to run folders as absolute.
AbsolutePath = Annotated[Path, AfterValidator(Path.absolute)]
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


def validate(config_class: type[Config], content: YamlDict, source: str) -> Config:
    """The content as a config; the first error as one readable message."""
    try:
        return config_class.model_validate(content)
    except ValidationError as error:
        first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
        raise _explain(config_class, dict(first), source) from None


def _explain(config_class: type[BaseConfig], error: dict[str, Any], source: str) -> RecsysError:
    location = tuple(error["loc"])
    where = f"{source}: {'.'.join(map(str, location)) or 'top level'}"
    if error["type"] == "extra_forbidden":
        known = sorted(_known_keys(config_class, location[:-1]))
        return RecsysError(
            f"unknown key {location[-1]!r}",
            where=where,
            expected=", ".join(known),
            fix=did_you_mean(str(location[-1]), known),
        )
    if error["type"] == "union_tag_invalid":
        tags = error["ctx"]["expected_tags"].replace("'", "").split(", ")
        tag, name = error["ctx"]["tag"], error["ctx"]["discriminator"].strip("'")
        return RecsysError(
            f"unknown {name} {tag!r}",
            where=where,
            expected=", ".join(tags),
            fix=did_you_mean(tag, tags),
        )
    if error["type"] == "unknown_name":
        known, name = error["ctx"]["known"], error["input"]
        return RecsysError(
            f"unknown {location[-1]} {name!r}",
            where=where,
            expected=", ".join(known),
            fix=did_you_mean(name, known),
        )
    if error["type"] == "missing":
        return RecsysError(f"{location[-1]} is missing", where=where, fix="add this key")
    message = error["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    got = None if isinstance(error["input"], dict) else shorten(str(error["input"]))
    return RecsysError("invalid value", where=where, expected=message, got=got)


def _known_keys(config_class: type[BaseConfig], location: Sequence[object]) -> set[str]:
    """The keys that a section may have, following a pydantic error location through unions."""
    models: list[type[BaseModel]] = [config_class]
    for part in location:
        fields = [m.model_fields[part] for m in models if part in m.model_fields]
        if fields:
            models = [m for field in fields for m in _models_in(field.annotation)]
        else:  # the tag of a union, or a key of a dict
            models = [m for m in models if part in _tags(m)] or models
    return {key for model in models for key in model.model_fields}


def _models_in(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) in (Union, types.UnionType, dict, tuple, list) or hasattr(
        annotation, "__metadata__"
    ):
        for argument in get_args(annotation):
            yield from _models_in(argument)


def _tags(model: type[BaseModel]) -> set[object]:
    return {
        tag
        for field in model.model_fields.values()
        if get_origin(field.annotation) is Literal
        for tag in get_args(field.annotation)
    }
