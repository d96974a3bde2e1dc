"""Files and folders that this user may not read or write: named, and nothing half is left."""

import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.commands import files_below, run
from tests.faults.conftest import write_config

NOBODY = 65534


@contextmanager
def as_another_user():
    """Root may do everything, so it has to stop being root for a while."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(user)


@pytest.fixture
def place(tiny_dataset, finished_run):
    """A folder that everybody may enter, with a data set, a config and a run that all may read."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        shutil.copytree(tiny_dataset, folder / "dataset")
        shutil.copytree(finished_run, folder / "run")
        write_config(folder / "config.yaml", folder / "dataset")
        config = folder / "run/config.yaml"
        config.write_text(config.read_text().replace(str(tiny_dataset), str(folder / "dataset")))
        (folder / "dataset").chmod(0o755)
        (folder / "run").chmod(0o755)
        yield folder


UNREADABLE = {
    "config.yaml": "train {place}/config.yaml --out {out}",
    "dataset": "train {place}/config.yaml --out {out}",
    "dataset/schema.json": "train {place}/config.yaml --out {out}",
    "dataset/train": "train {place}/config.yaml --out {out}",
    "dataset/train/part-00001.parquet": "train {place}/config.yaml --out {out}",
    "dataset/valid/part-00000.parquet": "train {place}/config.yaml --out {out}",
    "dataset/test/part-00000.parquet": "evaluate {place}/run",
    "dataset/vocabularies/item.parquet": "export {place}/run --out {out}",
    "run": "evaluate {place}/run",
    "run/config.yaml": "evaluate {place}/run",
    "run/schema.json": "evaluate {place}/run",
    "run/checkpoints": "evaluate {place}/run",
    "run/checkpoints/best-000000020/state.json": "evaluate {place}/run",
    "run/checkpoints/best-000000020/tables": "export {place}/run --out {out}",
    "run/predictions/test.parquet": "compare {place}/run {place}/run",
}


BEGUN = {"new", "new/config.yaml", "new/environment.json", "new/schema.json"}


@pytest.mark.parametrize(("name", "command"), UNREADABLE.items(), ids=UNREADABLE)
def test_what_cannot_be_read_is_named(place, name, command):
    (place / name).chmod(0)
    with tempfile.TemporaryDirectory() as out:
        Path(out).chmod(0o777)
        (place / "run/predictions").chmod(0o777)
        words = command.format(place=place, out=f"{out}/new").split()
        with as_another_user():
            outcome = run(*words)
        assert outcome.is_refusal(str(place))
        # A run folder may have been begun; `--resume` starts it once more.
        assert set(files_below(Path(out))) <= BEGUN


UNWRITABLE = [
    "train {place}/config.yaml --out {place}/new",
    "train --resume {place}/run",
    "train train.epochs=5 --resume {place}/run",
    "evaluate {place}/run",
    "export {place}/run --out {place}/export",
    "prepare criteo_kaggle --raw {place}/config.yaml --out {place}/new",
    "demo --out {place}/demo",
]


@pytest.mark.parametrize("command", UNWRITABLE)
def test_what_cannot_be_written_is_named_and_left_as_it_is(place, command):
    before = {name: (place / name).stat().st_mtime_ns for name in files_below(place)}
    with as_another_user():
        outcome = run(*command.format(place=place).split())
    assert outcome.is_refusal("ermission", str(place))
    assert {name: (place / name).stat().st_mtime_ns for name in files_below(place)} == before
