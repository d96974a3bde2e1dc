"""Marks every test of this folder, and skips it where there is no CUDA device."""

from pathlib import Path

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = [item for item in items if Path(__file__).parent in item.path.parents]
    if not here:
        return
    from tests.gpu.machine import IS_HERE, NO_CUDA

    for item in here:
        item.add_marker(pytest.mark.gpu)
        if not IS_HERE:
            item.add_marker(pytest.mark.skip(reason=NO_CUDA))
