"""Where the real rows are, and the rules that skip tests which need what is not here."""

import os
from pathlib import Path

import pytest

REAL_DATA = Path(os.environ.get("RECSYS_REAL_DATA", "../shared/data"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if REAL_DATA.is_dir():
        return
    for item in items:
        if item.get_closest_marker("real_data"):
            item.add_marker(pytest.mark.skip(reason=f"no real rows: {REAL_DATA} is not a folder"))


@pytest.fixture(scope="session")
def real_data() -> Path:
    return REAL_DATA
