"""The base of every config class, and the messages about invalid values.

A config is a value: frozen, unknown keys are errors, and every error names the key, what was
expected, what came and the nearest known key.
"""

import types
from collections.abc import Mapping, Sequence
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
from pydantic.fields import FieldInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from recsys.errors import RecsysError, did_you_mean, shorten


class BaseConfig(BaseModel):
    """Configs are values: changed with `model_copy(update=…)`, never in place."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Record(BaseModel):
    """What another part or an older version wrote: unknown keys are kept, not refused."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)


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


def validate(config_class: type[Config], content: Mapping[str, Any], source: str) -> Config:
    """The content as a config; the first error as one readable message."""
    try:
        return config_class.model_validate(content)
    except ValidationError as error:
        first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
        raise _explain(config_class, dict(first), source) from None


# pydantic's error types → what was expected, in plain words
EXPECTED = {
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "dict_type": "a map: {{key: value}}",
    "float_parsing": "a number",
    "float_type": "a number",
    "int_from_float": "an integer",
    "int_parsing": "an integer",
    "int_type": "an integer",
    "list_type": "a list",
    "model_attributes_type": "a map: {{key: value}}",
    "model_type": "a map: {{key: value}}",
    "path_type": "a path",
    "string_type": "text",
    "tuple_type": "a list",
    "union_tag_not_found": "a map with the key {discriminator}",
}


def _explain(config_class: type[BaseConfig], error: dict[str, Any], source: str) -> RecsysError:
    path, known = _written_path(config_class, error["loc"])
    kind, context = error["type"], error.get("ctx", {})
    where = f"{source}: {'.'.join(path) or 'top level'}"
    if kind == "extra_forbidden":
        return RecsysError(
            f"unknown key {path[-1]!r}",
            where=where,
            expected=", ".join(known),
            fix=did_you_mean(path[-1], known),
        )
    if kind == "union_tag_invalid":
        tags = context["expected_tags"].replace("'", "").split(", ")
        name = context["discriminator"].strip("'")
        return RecsysError(
            f"unknown {name} {context['tag']!r}",
            where=where,
            expected=", ".join(tags),
            fix=did_you_mean(context["tag"], tags),
        )
    if kind == "unknown_name":
        return RecsysError(
            f"unknown {path[-1]} {error['input']!r}",
            where=where,
            expected=", ".join(context["known"]),
            fix=did_you_mean(error["input"], context["known"]),
        )
    if kind == "missing":
        return RecsysError(f"{path[-1]} is missing", where=where, fix="add this key")
    message = error["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    expected = EXPECTED[kind].format(**context) if kind in EXPECTED else message
    got = None if isinstance(error["input"], dict) else shorten(str(error["input"]))
    return RecsysError("invalid value", where=where, expected=expected, got=got)


def _written_path(
    config_class: type[BaseConfig], location: Sequence[int | str]
) -> tuple[list[str], list[str]]:
    """A pydantic error location as keys of the YAML file, and the keys that its last map may have.

    Leaves out what pydantic adds: the chosen member of a union, and the field that a class has
    written flat (its `FLAT`).
    """
    path: list[str] = []
    known: set[str] = set()
    annotation: object = config_class
    is_flat = False
    for part in location:
        member, *others = _members(annotation)
        if others:
            chosen = (each for each in (member, *others) if part in _labels(each))
            annotation = next(chosen, None)
            continue
        if isinstance(member, type) and issubclass(member, BaseModel):
            fields: dict[Any, FieldInfo] = member.model_fields
            known = {*fields, *(known if is_flat else ())}
            is_flat = part == getattr(member, "FLAT", None)
            annotation = fields[part].annotation if part in fields else None
        else:
            annotation, is_flat = _inner(member, part), False
        if not is_flat:
            path.append(str(part))
    return path, sorted(known)


def _members(annotation: object) -> list[object]:
    """The members of a union but None; of anything else, itself."""
    if get_origin(annotation) is Annotated:
        return _members(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        given = [each for each in get_args(annotation) if each is not types.NoneType]
        return [member for each in given for member in _members(each)]
    return [annotation]


def _labels(member: object) -> set[object]:
    """How pydantic may name a member of a union in a location."""
    if not (isinstance(member, type) and issubclass(member, BaseModel)):
        return set()
    fields = member.model_fields.values()
    literals = [field.annotation for field in fields if get_origin(field.annotation) is Literal]
    return {member.__name__, *(tag for literal in literals for tag in get_args(literal))}


def _inner(annotation: object, part: int | str) -> object:
    """The type of one item of a dict, list or tuple."""
    arguments = get_args(annotation)
    if get_origin(annotation) is dict:
        return arguments[1]
    if not arguments or not isinstance(part, int):
        return None
    return arguments[part] if part < len(arguments) and Ellipsis not in arguments else arguments[0]
