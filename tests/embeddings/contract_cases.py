"""The contract's tests as functions of a method, for methods that are not among its examples."""

import inspect
import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from tests.embeddings import test_contract


def contract_cases() -> list[Any]:
    """(test, its arguments beside `method`) for every test of the contract and every parameter."""
    cases = []
    for name, function in vars(test_contract).items():
        if not name.startswith("test_") or "method" not in inspect.signature(function).parameters:
            continue
        choices = [
            list(_values(mark)) for mark in function.pytestmark if _names(mark) != ["method"]
        ]
        for chosen in itertools.product(*choices):
            arguments = {key: value for values in chosen for key, value in values.items()}
            label = "-".join(str(getattr(v, "name", v)) for v in arguments.values())
            label = f"{name.removeprefix('test_')}-{label}"
            cases.append(pytest.param(function, arguments, id=label))
    return cases


def _names(mark: pytest.Mark) -> list[str]:
    names = mark.args[0]
    return [n.strip() for n in names.split(",")] if isinstance(names, str) else list(names)


def _values(mark: pytest.Mark) -> Iterator[dict[str, object]]:
    names = _names(mark)
    for values in mark.args[1]:
        yield dict(zip(names, values if len(names) > 1 else [values], strict=True))
