"""Folders that appear under their name only when every byte of them is on disk."""

import os
import shutil
from pathlib import Path

from recsys.errors import RecsysError


def partial_of(final: Path) -> Path:
    """Where a folder is written before it is whole; the same on every rank."""
    return final.with_name(f".{final.name}.partial")


def sync(path: Path) -> None:
    """Returns when a file's content, or a folder's list of names, is on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def publish(final: Path) -> None:
    """Gives the finished partial folder its name; a folder of that name is replaced."""
    partial, old = partial_of(final), final.with_name(f".{final.name}.old")
    for folder in (*(path for path in partial.rglob("*") if path.is_dir()), partial):
        sync(folder)
    if final.exists():
        final.rename(old)  # a kill right after this is mended by `clear_partials`
    partial.rename(final)
    sync(final.parent)
    shutil.rmtree(old, ignore_errors=True)


def remove_folder(folder: Path) -> None:
    """Deletes a folder; a kill half-way leaves nothing under its name."""
    if not folder.exists():
        return
    try:
        shutil.rmtree(partial_of(folder), ignore_errors=True)
        shutil.rmtree(folder.rename(partial_of(folder)))
    except OSError as error:
        raise RecsysError("a folder could not be deleted", where=folder, got=str(error)) from None


def clear_partials(parent: Path) -> None:
    """Deletes what killed writers left in a folder, and puts back what one was about to replace."""
    for old in parent.glob(".*.old"):
        name = parent / old.name.removeprefix(".").removesuffix(".old")
        if not name.exists():
            old.rename(name)
        shutil.rmtree(old, ignore_errors=True)
    for partial in parent.glob(".*.partial"):
        shutil.rmtree(partial, ignore_errors=True)
