"""Where the real rows are, what skips tests that need what is not here, a tiny data set."""

import os
from pathlib import Path

import pytest

from tests.tiny_dataset import write_tiny_dataset

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


@pytest.fixture(scope="session")
def tiny_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared data set of 1,000 learnable rows with every kind of feature; do not change it."""
    folder = tmp_path_factory.mktemp("datasets") / "tiny"
    write_tiny_dataset(folder)
    return folder
