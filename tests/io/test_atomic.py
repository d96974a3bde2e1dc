"""Files appear complete or not at all, and the next writer removes what a killed one left."""

import multiprocessing
import os
import signal
import stat
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from recsys.errors import RecsysError
from recsys.io import atomic
from recsys.io.atomic import (
    Partial,
    atomic_folder,
    atomic_write,
    remove_dead_partials,
    remove_folder,
    write_json,
    write_text,
)

FORK = multiprocessing.get_context("fork")
KILLED = -signal.SIGKILL


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def kill_self(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)


def killed_in(work, *arguments):
    """Runs `work` in a process that is expected to end by kill -9."""
    process = FORK.Process(target=work, args=arguments)
    process.start()
    process.join()
    assert process.exitcode == KILLED


def write_and_die(path):
    with atomic_write(path) as partial:
        partial.write_text("half")
        kill_self()


def fill_folder_and_die(path):
    with atomic_folder(path) as folder:
        (folder / "part").write_text("half")
        kill_self()


def test_a_file_is_absent_until_it_is_complete(tmp_path):
    path = tmp_path / "new" / "file.txt"
    with atomic_write(path) as partial:
        partial.write_text("content")
        assert partial.name == "file.txt"
        assert not path.exists()
    assert path.read_text() == "content"
    assert names(tmp_path / "new") == ["file.txt"]


@pytest.mark.parametrize("writer", [atomic_write, atomic_folder])
def test_after_an_error_the_old_content_stays_and_nothing_else(tmp_path, writer):
    path = tmp_path / "name"
    with writer(path) as partial:
        (partial / "a" if partial.is_dir() else partial).write_text("old")
    before = [p.read_text() for p in (path, path / "a") if p.is_file()]

    def write_and_fail():
        with writer(path) as partial:
            (partial / "b" if partial.is_dir() else partial).write_text("new")
            raise KeyError

    with pytest.raises(KeyError):
        write_and_fail()
    assert [p.read_text() for p in (path, path / "a") if p.is_file()] == before
    assert names(tmp_path) == ["name"]


def test_a_folder_replaces_a_folder_with_all_that_is_in_it(tmp_path):
    for name in ("first", "second"):
        with atomic_folder(tmp_path / "out") as folder:
            (folder / name).touch()
    assert names(tmp_path / "out") == ["second"]
    assert names(tmp_path) == ["out"]


def test_the_old_folder_is_put_back_if_the_new_one_cannot_take_its_place(tmp_path, monkeypatch):
    with atomic_folder(tmp_path / "out") as folder:
        (folder / "old").touch()
    rename = Path.rename

    def refuse(path, target):
        if path.name == "out" and target == tmp_path / "out":
            raise PermissionError(13, "Permission denied")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(PermissionError), atomic_folder(tmp_path / "out"):
        pass
    assert names(tmp_path / "out") == ["old"]
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("work", [write_and_die, fill_folder_and_die])
def test_the_next_writer_in_a_folder_removes_what_a_killed_one_left(tmp_path, work):
    killed_in(work, tmp_path / "killed")
    (left,) = names(tmp_path)
    assert left.startswith(".killed.")
    write_text(tmp_path / "another", "")
    assert names(tmp_path) == ["another"]


def die_before_the_new_folder_has_its_name(out):
    rename = Path.rename

    def rename_or_die(path, target):
        if path.name == out.name and target == out:
            kill_self()
        return rename(path, target)

    Path.rename = rename_or_die
    with atomic_folder(out) as folder:
        (folder / "new").touch()


def test_what_a_killed_writer_was_about_to_replace_comes_back(tmp_path):
    with atomic_folder(tmp_path / "out") as folder:
        (folder / "old").touch()
    killed_in(die_before_the_new_folder_has_its_name, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    remove_dead_partials(tmp_path)
    assert names(tmp_path / "out") == ["old"]
    assert names(tmp_path) == ["out"]


def die_in_deleting(out):
    atomic.shutil.rmtree = kill_self
    with atomic_folder(out) as folder:
        (folder / "new").touch()


def test_a_folder_that_was_half_deleted_never_comes_back(tmp_path):
    with atomic_folder(tmp_path / "out") as folder:
        (folder / "old").touch()
    killed_in(die_in_deleting, tmp_path / "out")
    assert names(tmp_path / "out") == ["new"]
    remove_folder(tmp_path / "out")
    remove_dead_partials(tmp_path)
    assert names(tmp_path) == []


def remove_and_die(folder):
    atomic.shutil.rmtree = kill_self
    remove_folder(folder)


def test_a_removal_that_was_killed_leaves_nothing_under_the_name(tmp_path):
    (tmp_path / "out" / "sub").mkdir(parents=True)
    killed_in(remove_and_die, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    remove_dead_partials(tmp_path)
    assert names(tmp_path) == []


def test_what_a_living_process_writes_is_never_removed(tmp_path):
    with atomic_folder(tmp_path / "out") as folder:
        (folder / "part").write_text("x")
        write_text(tmp_path / "another", "")
        remove_dead_partials(tmp_path)
        assert (folder / "part").read_text() == "x"
    assert names(tmp_path) == ["another", "out"]


def test_other_names_are_never_removed(tmp_path):
    kept = [".a.partial", ".a.12.partial", "a.12-0123abcd.partial", ".a.12-0123abcd.new"]
    for name in kept:
        (tmp_path / name).mkdir()
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").touch()
    (tmp_path / ".link.12-0123abcd.partial").symlink_to(outside)
    (tmp_path / ".file.12-0123abcd.partial").touch()
    write_text(tmp_path / "b", "")
    assert set(kept) < set(names(tmp_path))
    assert names(outside) == ["file"]


def write_often(path, times):
    for number in range(times):
        write_text(path / f"{os.getpid()}-{number % 3}", "x" * 1000)
    with atomic_folder(path / "folder"):
        kill_self()


def test_many_writers_in_one_folder_never_disturb_each_other(tmp_path):
    processes = [FORK.Process(target=write_often, args=(tmp_path, 60)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [KILLED] * 4  # none failed before
    write_json(tmp_path / "last", {})
    assert all((tmp_path / n).read_text() == "x" * 1000 for n in names(tmp_path) if n != "last")
    assert len(names(tmp_path)) == 4 * 3 + 1


def test_without_locks_files_are_written_and_nothing_is_removed(tmp_path, monkeypatch):
    killed_in(write_and_die, tmp_path / "killed")

    def no_locks(*_):
        raise OSError(atomic.errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(atomic.fcntl, "flock", no_locks)
    write_text(tmp_path / "file", "content")
    assert (tmp_path / "file").read_text() == "content"
    assert len(names(tmp_path)) == 2


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_files_have_the_mode_that_the_umask_gives(tmp_path, mask, mode):
    previous = os.umask(mask)
    try:
        with atomic_write(tmp_path / "alone.safetensors") as partial:
            save_file({"a": torch.zeros(1)}, partial)
        with atomic_folder(tmp_path / "folder") as folder:
            (folder / "sub").mkdir(mode=0o700)
            save_file({"a": torch.zeros(1)}, folder / "sub" / "b.safetensors")
    finally:
        os.umask(previous)
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in written} == {mode}
    folders = {
        stat.S_IMODE((folder / n).stat().st_mode)
        for n in ("", "sub")
        for folder in [tmp_path / "folder"]
    }
    assert folders == {0o777 & ~mask}


def test_links_are_not_followed_when_modes_are_set(tmp_path):
    outside = tmp_path / "outside"
    outside.touch(mode=0o600)
    with atomic_folder(tmp_path / "folder") as folder:
        (folder / "link").symlink_to(outside)
    assert stat.S_IMODE(outside.stat().st_mode) == 0o600


def test_everything_is_on_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    synced = []

    def note(path):
        synced.append((path.name, (tmp_path / "out").exists()))

    monkeypatch.setattr(atomic, "sync", note)
    with atomic_folder(tmp_path / "out") as folder:
        (folder / "a").touch()
    assert set(synced) == {("out", False), ("a", False), (tmp_path.name, True)}


def test_a_hidden_folder_can_lie_beside_another_path(tmp_path):
    (tmp_path / "export").mkdir()
    with atomic_write(tmp_path / "export" / "file", beside=tmp_path / "export") as partial:
        partial.touch()
        assert names(tmp_path / "export") == []
    assert names(tmp_path / "export") == ["file"]
    assert names(tmp_path) == ["export"]


def test_a_folder_that_cannot_be_deleted_is_named(tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(RecsysError, match="cannot be deleted"):
        remove_folder(tmp_path / "out")
    assert names(tmp_path) == ["out"]


def test_discarding_twice_is_harmless(tmp_path):
    partial = Partial(tmp_path / "a")
    partial.discard()
    partial.discard()
    assert names(tmp_path) == []
