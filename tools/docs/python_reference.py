"""Writes the reference of the public Python functions, as Markdown, from their docstrings."""

import ast
import inspect
import re
import textwrap
from collections.abc import Iterable, Iterator


def python_reference(sections: Iterable[tuple[str, Iterable[tuple[str, object]]]]) -> str:
    """A section for each module: its functions and classes with signature and docstring.

    Args:
        sections: the module's name, and what it offers by name.
    """
    parts = []
    for module, members in sections:
        parts.append(f"## `{module}`")
        for name, member in members:
            parts.append(_entry(name, member, level=3))
            if inspect.isclass(member):
                parts += [
                    _entry(f"{name}.{method}", function, level=4)
                    for method, function in vars(member).items()
                    if inspect.isfunction(function) and not method.startswith("_")
                ]
    return "\n\n".join(parts) + "\n"


def _entry(name: str, member: object, level: int) -> str:
    code = f"```python\n{_signature(name, member)}\n```"
    docstring = re.sub(r"\s+# doctest: \+SKIP", "", inspect.getdoc(member) or "")
    text = f"```text\n{docstring}\n```"
    return f"{'#' * level} `{name}`\n\n{code}\n\n{text}"


def _signature(name: str, member: object) -> str:
    """The call, one line for each argument, with types as the source names them."""
    is_class = inspect.isclass(member)
    source = inspect.getsource(member.__init__ if is_class else member)
    function = ast.parse(textwrap.dedent(source)).body[0]
    assert isinstance(function, ast.FunctionDef)
    returns = function.returns
    end = "" if is_class or returns is None else f" -> {ast.unparse(returns)}"
    inside = "".join(f"    {text},\n" for text in _arguments(function.args) if text != "self")
    return f"{name}(\n{inside}){end}" if inside else f"{name}(){end}"


def _arguments(arguments: ast.arguments) -> Iterator[str]:
    optional = len(arguments.args) - len(arguments.defaults)
    defaults = [*[None] * optional, *arguments.defaults]
    for argument, default in zip(arguments.args, defaults, strict=True):
        yield _argument(argument, default)
    if arguments.kwonlyargs:
        yield "*"
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        yield _argument(argument, default)


def _argument(argument: ast.arg, default: ast.expr | None) -> str:
    return ast.unparse(argument) + (f" = {ast.unparse(default)}" if default else "")
