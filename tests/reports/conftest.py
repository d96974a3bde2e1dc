import pytest

from tests.reports.synthetic_run import write_run, write_vocabulary


@pytest.fixture
def run_dir(tmp_path):
    """A fresh run folder with predictions of 2,000 valid and 2,000 test rows."""
    return write_run(tmp_path / "autoint_seed3")


@pytest.fixture
def dataset_dir(tmp_path):
    """A data set folder that has the vocabulary of `city` and of nothing else."""
    return write_vocabulary(tmp_path / "two_cities")
