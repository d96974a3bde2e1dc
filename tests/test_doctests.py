"""The examples in docstrings are right."""

import doctest
import importlib

import pytest

ROOTS = ("data_pipelines", "recsys")


def modules_with_examples(root):
    """The modules below the root folder whose source has an example."""
    for path in sorted(root.rglob("*.py")):
        if ">>> " in path.read_text():
            parts = path.relative_to(root.parent).with_suffix("").parts
            yield ".".join(parts).removesuffix(".__init__")


@pytest.mark.parametrize("folder", ROOTS)
def test_examples_give_what_they_show(pytestconfig, folder):
    names = list(modules_with_examples(pytestconfig.rootpath / folder))
    assert names
    for name in names:
        result = doctest.testmod(importlib.import_module(name))
        assert result.attempted, name
        assert not result.failed, name
