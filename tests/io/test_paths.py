"""Which files may be opened: regular ones inside their folder, links resolved, of bounded size."""

import os
import socket

import pytest

from recsys.errors import RecsysError
from recsys.io.paths import file_inside, new_file_inside, read_bytes, read_text, regular_files


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "artifact"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub/file.txt").write_text("inside")
    (tmp_path / "secret.txt").write_text("outside")
    return folder


def test_a_regular_file_inside_is_found(folder):
    assert file_inside(folder, "sub/file.txt").read_text() == "inside"


def test_the_folder_itself_may_be_a_link(folder, tmp_path):
    (tmp_path / "link").symlink_to(folder)
    assert file_inside(tmp_path / "link", "sub/file.txt").read_text() == "inside"


@pytest.mark.parametrize(
    "name",
    ["../secret.txt", "sub/../../secret.txt", "/etc/passwd", "", ".", "a\x00b", "..\\secret"],
)
@pytest.mark.parametrize("open_", [file_inside, new_file_inside])
def test_a_path_that_leads_out_is_refused(folder, name, open_):
    with pytest.raises(RecsysError, match="out of its folder"):
        open_(folder, name)


@pytest.mark.parametrize("open_", [file_inside, new_file_inside])
def test_a_link_that_leads_out_is_refused(folder, tmp_path, open_):
    (folder / "link").symlink_to(tmp_path)
    with pytest.raises(RecsysError, match="out of its folder"):
        open_(folder, "link/secret.txt")


def test_links_within_the_folder_are_followed(folder):
    (folder / "link.txt").symlink_to("sub/file.txt")
    assert file_inside(folder, "link.txt").read_text() == "inside"


def test_a_loop_of_links_is_refused(folder):
    (folder / "loop").symlink_to("loop")
    with pytest.raises(RecsysError, match="out of its folder"):
        file_inside(folder, "loop")


def make_fifo(path):
    os.mkfifo(path)


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as server:
        os.chdir(path.parent)  # a socket's path is short
        server.bind(path.name)


KINDS = {"pipe": make_fifo, "folder": os.mkdir, "socket": make_socket}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_regular_file_is_refused_without_waiting(folder, monkeypatch, kind):
    monkeypatch.chdir(folder)
    KINDS[kind](folder / "thing")
    with pytest.raises(RecsysError, match="not a regular file"):
        file_inside(folder, "thing")


@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_a_pipe_or_folder_is_not_read(folder, kind):
    KINDS[kind](folder / "thing")
    with pytest.raises(RecsysError, match=f"not a regular file(.|\n)*{kind}"):
        read_bytes(folder / "thing")


def test_a_device_is_not_read():
    with pytest.raises(RecsysError, match=r"not a regular file(.|\n)*a device"):
        read_bytes("/dev/zero")


def test_a_file_that_is_too_large_is_not_read(folder):
    os.truncate(folder / "sub/file.txt", 2**40)
    with pytest.raises(RecsysError, match="too large"):
        read_bytes(folder / "sub/file.txt")


def test_text_that_is_not_utf8_is_refused_with_its_place(folder):
    (folder / "text").write_bytes(b"ab\xff")
    with pytest.raises(RecsysError, match=r"0xff at offset 2"):
        read_text(folder / "text")


def test_a_folder_with_a_link_in_it_is_refused(folder):
    assert regular_files(folder) == {"sub/file.txt"}
    (folder / "sub/link").symlink_to("file.txt")
    with pytest.raises(RecsysError, match="symbolic link"):
        regular_files(folder)
