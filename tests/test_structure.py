"""The product stays easy to find one's way in: small folders, short import chains."""

import ast
import functools
from collections.abc import Collection
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("recsys", "data_pipelines")
FOLDERS = sorted(
    {path.parent for name in (*PACKAGES, "benchmarks") for path in (ROOT / name).rglob("*.py")}
)
MOST_FILES, LONGEST_CHAIN = 14, 14


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.relative_to(ROOT)))
def test_a_folder_has_few_files(folder):
    assert len(list(folder.glob("*.py"))) <= MOST_FILES


def test_import_chains_are_short():
    paths = {_module(path): path for name in PACKAGES for path in (ROOT / name).rglob("*.py")}

    @functools.cache
    def chain(module: str) -> tuple[str, ...]:
        below = (chain(other) for other in _imports(paths[module], paths) - {module})
        return (module, *max(below, key=len, default=()))

    longest = max(map(chain, paths), key=len)
    assert len(longest) <= LONGEST_CHAIN, " > ".join(longest)


def _module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def _imports(path: Path, known: Collection[str]) -> set[str]:
    """The `known` modules that are imported when the file is."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{name.name}": node.module for name in node.names}
            found |= {name if name in known else module for name, module in names.items()}
    return found & set(known)
