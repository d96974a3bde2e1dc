"""A disk that fills up at any moment, and folders that cannot be written: nothing half looks whole.

The disks are real: small file systems in memory.
"""

import json
import shutil

import pytest
import yaml

from recsys.io.checksums import verify_checksums
from tests.faults.commands import files_below, run
from tests.faults.forked import can_mount

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not can_mount(), reason="this machine lets no user make a mount namespace"),
]
EVERY_THREE_STEPS = "train.checkpoint_every_steps=3"


@pytest.fixture
def disk(forked, tmp_path):
    """Mounts a file system of so many KiB; returns its path for commands and for the test."""
    path = tmp_path / "disk"
    path.mkdir()

    def mount(kibibytes, *options):
        forked.mount("-t", "tmpfs", "-o", ",".join([f"size={kibibytes}k", *options]), "tmpfs", path)
        return path, forked.inside(path)

    return mount


def assert_all_that_has_a_name_is_whole(run_dir):
    for folder in run_dir.glob("checkpoints/[!.]*"):
        verify_checksums(folder)
    for path in run_dir.glob("predictions/[!.]*"):
        assert path.read_bytes().endswith(b"PAR1")
    for path in run_dir.glob("*.json"):
        json.loads(path.read_text())
    assert [name for name in files_below(run_dir) if ".partial" in name] == []


# From too small for the config file to large enough; a checkpoint of this model takes 120 KiB.
SIZES = [4, 12, 16, 20, 24, 64, 130, 250, 380, 420, 450, 480]


@pytest.mark.parametrize("kibibytes", SIZES)
def test_a_disk_that_fills_up_during_training(forked, disk, config, kibibytes):
    path, seen = disk(kibibytes)
    outcome = forked.run("train", config, "train.epochs=1", EVERY_THREE_STEPS, "--out", path / "r")
    if outcome.code == 0:
        assert kibibytes > 440
    else:
        assert outcome.is_refusal("No space left on device", str(path / "r"))
        assert not (seen / "r" / "report.json").exists()
    assert_all_that_has_a_name_is_whole(seen / "r")


def test_training_goes_on_when_the_disk_has_room_again(forked, disk, config):
    path, seen = disk(250)
    train = ["train", config, "train.epochs=1", EVERY_THREE_STEPS, "--out", path / "r"]
    assert forked.run(*train).is_refusal("No space left", "--resume")
    forked.mount("-o", "remount,size=64m", path)
    outcome = forked.run("train", "--resume", path / "r")
    assert outcome.code == 0, outcome.err
    assert (seen / "r" / "report.json").exists()
    assert_all_that_has_a_name_is_whole(seen / "r")


@pytest.mark.parametrize("spare", [0, 4, 8, 12, 24, 48])
def test_a_disk_that_fills_up_during_evaluation(forked, disk, trained, spare):
    for name in ("predictions", "report.json", "report.html"):
        folder_or_file = trained / name
        shutil.rmtree(folder_or_file) if folder_or_file.is_dir() else folder_or_file.unlink()
    path, seen = disk(64 * 1024)
    shutil.copytree(trained, seen / "r")
    fill(seen, spare)
    outcome = forked.run("evaluate", path / "r")
    assert outcome.is_refusal("No space left on device", str(path / "r"))
    assert_all_that_has_a_name_is_whole(seen / "r")


def fill(folder, spare):
    """Leaves `spare` KiB free."""
    with (folder / "ballast").open("wb") as ballast:
        free = shutil.disk_usage(folder).free
        ballast.write(bytes(max(0, free - spare * 1024)))


@pytest.mark.parametrize("kibibytes", [16, 100, 600])
def test_a_disk_that_fills_up_during_export(forked, disk, trained, kibibytes):
    path, seen = disk(kibibytes)
    outcome = forked.run("export", trained, "--out", path / "export")
    assert outcome.is_refusal("No space left on device", str(path))
    assert files_below(seen) == []


def test_an_old_export_survives_a_full_disk(forked, disk, trained):
    path, seen = disk(64 * 1024)
    assert forked.run("export", trained, "--out", path / "export").code == 0
    before = files_below(seen)
    fill(seen, 100)
    assert forked.run("export", trained, "--out", path / "export").is_refusal("No space left")
    (seen / "ballast").unlink()
    assert files_below(seen) == before
    verify_checksums(seen / "export")


@pytest.fixture
def recipe(tmp_path):
    """20,000 raw rows and how they are prepared: about 400 KiB."""
    (tmp_path / "rows.csv").write_text(
        "label,color,price\n" + "".join(f"{i % 2},c{i % 500},{i}.5\n" for i in range(20_000))
    )
    content = {"label": {"column": "label"}, "categorical": {"columns": ["color"]}}
    content |= {"name": "rows", "numerical": {"columns": ["price"]}}
    content |= {"split": {"method": "random"}}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(content))
    return tmp_path / "recipe.yaml", "--raw", tmp_path / "rows.csv"


@pytest.mark.parametrize("kibibytes", [4, 16, 100, 200, 300, 400])
def test_a_disk_that_fills_up_during_prepare(forked, disk, recipe, kibibytes):
    path, seen = disk(kibibytes)
    outcome = forked.run("prepare", *recipe, "--out", path / "dataset")
    assert outcome.is_refusal("the disk is full", str(path))
    assert files_below(seen) == []


def test_prepare_succeeds_with_room(forked, disk, recipe):
    path, seen = disk(4096)
    outcome = forked.run("prepare", *recipe, "--out", path / "dataset")
    assert outcome.code == 0, outcome.err
    assert (seen / "dataset" / "schema.json").exists()


READ_ONLY = "Read-only file system"


def read_only(forked, path):
    forked.mount("-o", "remount,ro", path)


def test_a_read_only_disk_refuses_every_command(forked, disk, config, recipe, trained):
    path, seen = disk(64 * 1024)
    shutil.copytree(trained, seen / "r")
    read_only(forked, path)
    before = files_below(seen)
    commands = [
        ("train", config, "--out", path / "new"),
        ("train", "--resume", path / "r"),
        ("train", "train.epochs=9", "--resume", path / "r"),
        ("evaluate", path / "r"),
        ("export", trained, "--out", path / "export"),
        ("prepare", *recipe, "--out", path / "dataset"),
    ]
    for command in commands:
        assert forked.run(*command).is_refusal(READ_ONLY, str(path)), command
    assert files_below(seen) == before


def test_dev_full_for_a_folder_is_refused(config, trained):
    assert run("train", config, "--out", "/dev/full").is_refusal("/dev/full")
    assert run("export", trained, "--out", "/dev/full").is_refusal("/dev/full")
    assert run("train", config, "--out", "/dev/full/run").is_refusal("/dev/full")
