"""Writes the reference of config keys, as Markdown, from the pydantic classes themselves.

Types, limits and defaults come from pydantic's JSON schema. A key's description is, in this order:
`Field(description=…)`, its entry under `Attributes:` in the docstring of its class, the text on the
line after it, the comment above it, or the comment at the end of its line. A key without any that
holds one class has the first line of the docstring of this class.
"""

import ast
import inspect
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any, get_args

from pydantic import BaseModel

Json = dict[str, Any]
LIMITS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
REF = "#/$defs/"


def described_fields(model: type[BaseModel]) -> dict[str, str]:
    """The description of each key of a config class; empty text if there is none."""
    texts = {name: info.description or "" for name, info in model.model_fields.items()}
    for parent in model.__mro__:  # the nearest class that describes a key wins
        if issubclass(parent, BaseModel) and parent is not BaseModel:
            for name, text in _from_source(parent).items():
                texts[name] = texts.get(name) or text
    for name, info in model.model_fields.items():
        sections = [part for part in _parts(info.annotation) if _is_config(part)]
        if not texts[name] and len(sections) == 1:
            texts[name] = inspect.cleandoc(sections[0].__doc__ or "").partition("\n")[0].rstrip(".")
    return {name: texts[name] for name in model.model_fields}


def _parts(annotation: object) -> list[object]:
    """An annotation and all that it is made of."""
    return [annotation, *(part for a in get_args(annotation) for part in _parts(a))]


def _is_config(annotation: object) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


@cache
def _from_source(model: type[BaseModel]) -> dict[str, str]:
    """What the source of one class says about the keys that it declares."""
    lines = inspect.getsource(model).splitlines()
    indent = len(lines[0]) - len(lines[0].lstrip())
    body = ast.parse("\n".join(line[indent:] for line in lines)).body[0]
    assert isinstance(body, ast.ClassDef)
    texts = _attributes(inspect.cleandoc(model.__doc__ or ""))
    for node, following in zip(body.body, [*body.body[1:], None], strict=True):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            text = _docstring(following) or _comment(lines, node)
            texts.setdefault(node.target.id, text)
    return texts


def _docstring(node: ast.stmt | None) -> str:
    """The text that stands alone on the line after a key; empty text if there is none."""
    is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    text = node.value.value if is_text else ""  # type: ignore[union-attr]  # see above
    return " ".join(text.split()) if isinstance(text, str) else ""


def _attributes(docstring: str) -> dict[str, str]:
    """The entries of a Google `Attributes:` section."""
    _, found, section = docstring.partition("Attributes:\n")
    entries = re.split(r"^    (\w+): ", section, flags=re.MULTILINE)[1:] if found else []
    texts = entries[1::2]
    return {name: " ".join(text.split()) for name, text in zip(entries[::2], texts, strict=True)}


def _comment(lines: list[str], node: ast.AnnAssign) -> str:
    last = lines[(node.end_lineno or node.lineno) - 1]
    trailing = re.search(r"\s# (.*)$", last)
    above: list[str] = []
    for line in reversed(lines[: node.lineno - 1]):
        if not line.strip().startswith("# "):
            break
        above.insert(0, line.strip().removeprefix("# "))
    return " ".join(above) or (trailing.group(1) if trailing else "")


@dataclass
class Reference:
    """The pages' state: which classes were written already, and where."""

    models: dict[str, type[BaseModel]]
    schemas: Json
    written: set[str] = field(default_factory=set)
    parts: list[str] = field(default_factory=list)


def config_reference(config: type[BaseModel], hidden: frozenset[str] = frozenset()) -> str:
    """All keys of a config class and of the classes in it, as Markdown.

    Args:
        config: The class of the whole file.
        hidden: Keys of `config` that files written by hand do not have.
    """
    schema = config.model_json_schema()
    classes = {owner.__name__: owner for owner in classes_in(config)}
    reference = Reference(classes, schema.get("$defs", {}))
    plain = {k: v for k, v in schema["properties"].items() if k not in hidden}
    simple = {k: v for k, v in plain.items() if not _refs(v)}
    if simple:
        reference.parts += ["## Top level", _table(config, schema, simple)]
    for name, spec in plain.items():
        if name not in simple:
            note = "Required." if name in schema.get("required", ()) else "May be left out."
            _write_section(reference, name, spec, level=2, note=note)
    return "\n\n".join(reference.parts) + "\n"


def classes_in(
    config: type[BaseModel], hidden: frozenset[str] = frozenset()
) -> list[type[BaseModel]]:
    """A config class and all classes in it, except those that only `hidden` keys hold."""
    found: list[type[BaseModel]] = []

    def add(model: type[BaseModel]) -> None:
        if model in found:
            return
        found.append(model)
        for name, info in model.model_fields.items():
            if model is not config or name not in hidden:
                for part in filter(_is_config, _parts(info.annotation)):
                    add(part)  # type: ignore[arg-type]  # a config class

    add(config)
    return found


def _refs(spec: object) -> list[str]:
    """The names of the classes that a key's schema refers to."""
    if isinstance(spec, dict):
        own = [spec["$ref"].removeprefix(REF)] if "$ref" in spec else []
        return own + [r for k, v in spec.items() if k != "discriminator" for r in _refs(v)]
    return [r for item in spec for r in _refs(item)] if isinstance(spec, list) else []


def _write_section(reference: Reference, path: str, spec: Json, level: int, note: str = "") -> None:
    """One key that holds classes: a heading, and each class that is not written yet."""
    new = [name for name in dict.fromkeys(_refs(spec)) if name not in reference.written]
    if not new:
        return
    tag = _discriminator(spec)
    reference.written.update(new)
    anchor = _union_anchor(spec) if tag else new[0].lower()
    reference.parts.append(_heading(level, path, anchor))
    if note:
        reference.parts.append(note)
    for name in new:
        if tag:
            title = f"{tag}: {_tag(reference.schemas[name], tag)}"
            reference.parts.append(_heading(level + 1, title, name.lower()))
        _write_class(reference, name, path, level + bool(tag))


def _heading(level: int, title: str, anchor: str) -> str:
    return f"{'#' * min(level, 6)} `{title}` {{: #{anchor} }}"


def _write_class(reference: Reference, name: str, path: str, level: int) -> None:
    model, schema = reference.models[name], reference.schemas[name]
    properties = schema.get("properties", {})
    tags = {"kind", "name", "method", "distribution"}
    shown = {k: v for k, v in properties.items() if not (k in tags and "const" in v)}
    summary = inspect.cleandoc(model.__doc__ or "").partition("Attributes:")[0].strip()
    reference.parts.append(summary)
    if shown:
        reference.parts.append(_table(model, schema, shown))
    for key, spec in shown.items():
        _write_section(reference, f"{path}.{key}", spec, level + 1)


def _table(model: type[BaseModel], schema: Json, properties: Json) -> str:
    texts = described_fields(model)
    rows = ["| key | type | default | |", "|---|---|---|---|"]
    rows += [
        f"| `{key}` | {_type(spec)} | {_default(schema, key, spec)} | {_cell(texts.get(key, ''))} |"
        for key, spec in properties.items()
    ]
    return "\n".join(rows)


def _default(schema: Json, key: str, spec: Json) -> str:
    if key in schema.get("required", ()):
        return "**required**"
    value = spec.get("default")
    if isinstance(value, dict) and len(value) > 2:
        return "as below"
    return _code(value)


def _code(value: object) -> str:
    return f"`{json.dumps(value, ensure_ascii=False)}`".replace("|", "\\|")


def _type(spec: Json) -> str:
    """A key's type in words, with its limits; classes are links to their own section."""
    if "$ref" in spec:
        name = spec["$ref"].removeprefix(REF)
        return f"[section](#{name.lower()})"
    if "const" in spec:
        return _code(spec["const"])
    if "enum" in spec:
        return " \\| ".join(f"`{value}`" for value in spec["enum"])
    for union in ("anyOf", "oneOf"):
        if union in spec:
            return _union(spec, spec[union])
    kind = spec.get("type", "any")
    if kind == "array":
        return _array(spec)
    if kind == "object":
        return f"map of name → {_type(spec['additionalProperties'])}"
    return _limited("path" if spec.get("format") == "path" else _name(kind), spec)


def _name(kind: str) -> str:
    return {"string": "text", "number": "float", "boolean": "true \\| false"}.get(kind, kind)


def _union(spec: Json, options: list[Json]) -> str:
    if "discriminator" in spec:
        return f"[one of {len(spec['discriminator']['mapping'])}](#{_union_anchor(spec)})"
    return " or ".join(dict.fromkeys(_type(option) for option in options))


def _array(spec: Json) -> str:
    if "prefixItems" in spec:
        return "[" + ", ".join(_type(item) for item in spec["prefixItems"]) + "]"
    least = ", at least one" if spec.get("minItems") else ""
    return f"list of {_type(spec['items'])}{least}"


def _limited(name: str, spec: Json) -> str:
    limits = [f"{sign} {spec[key]:,}" for key, sign in LIMITS.items() if key in spec]
    return " ".join([name, ", ".join(limits)]).strip()


def _discriminator(spec: Json) -> str | None:
    found = [s["discriminator"]["propertyName"] for s in _nested(spec) if "discriminator" in s]
    return found[0] if found else None


def _nested(spec: object) -> Iterator[Json]:
    if isinstance(spec, dict):
        yield spec
    children = spec.values() if isinstance(spec, dict) else spec if isinstance(spec, list) else ()
    for child in children:
        yield from _nested(child)


def _tag(schema: Json, tag: str | None) -> str:
    return str(schema["properties"].get(tag, {}).get("const", "")) if tag else ""


def _union_anchor(spec: Json) -> str:
    """The anchor of the section of a choice between classes: that of its first class, and `-or`."""
    return f"{_refs(spec)[0].lower()}-or"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
