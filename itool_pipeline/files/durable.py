"""Durable writing: a file or a directory is whole under its name or absent, also after a kill or a power cut."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from itool_pipeline.files.json_text import to_json
from itool_pipeline.files.storage_errors import StorageError, explaining_full_disk

SCRATCH = ".tmp"
"""Folder beside what is being written. Nothing in it is ever whole, and nothing in it is part of anything."""


def write_whole(target: Path, fill: Callable[[Path], object], *, what: str = "", alone: bool = False) -> Path:
    """Writes a file or a directory at one stroke: `target` is what `fill` wrote, all of it, or what was there before.

    fill    writes a file, or makes a directory, at the path that it is handed: on the same disk, of the same name
    what    its name in the message about a full disk
    alone   no other process writes this target: what an earlier kill left half-written is removed

    A file replaces the file that was there. An existing directory is refused with a StorageError, because no rename
    can replace it at one stroke: write under a new name, or call `remove_tree` before. So is a device or a pipe, which
    would be gone: for root also /dev/null. Raises StorageError on a full disk, and whatever `fill` raises.
    """
    if target.is_dir():
        raise StorageError(f"{target} is there already; write a directory under a new name, then remove the old")
    if target.exists() and not target.is_file():
        raise StorageError(f"{target} is a device or a pipe, which a file would replace; name another place")
    folder = target.parent / SCRATCH
    if alone:
        for left in folder.glob(f"{target.name}.*"):
            shutil.rmtree(left, ignore_errors=True)
    scratch = folder / f"{target.name}.{uuid.uuid4().hex}"
    with explaining_full_disk(what or target.name, target.parent):
        try:
            scratch.mkdir(parents=True)
            fill(scratch / target.name)
            # The content first, then the name: after a power cut no name leads to what is not there.
            sync_tree(scratch / target.name)
            move_into_place(scratch / target.name, target)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return target


def write_json(target: Path, value: Any, *, indent: int | None = None) -> Path:
    """`write_whole` of a file that holds the value as `to_json` has it, in UTF-8."""
    return write_whole(target, lambda path: path.write_bytes(to_json(value, indent=indent).encode("utf-8")))


def sync_file(path: Path) -> None:
    """Waits until the content of the file, or the list of names of the directory, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(path: Path) -> None:
    """`sync_file` for a file, or for a directory and all that is in it."""
    for inner in path.rglob("*") if path.is_dir() else ():
        sync_file(inner)
    sync_file(path)


def move_into_place(source: Path, target: Path) -> None:
    """Renames, durably. A file replaces the file that was there; a directory's target must not exist."""
    source.replace(target)
    sync_file(target.parent)


def remove_tree(path: Path) -> None:
    """Removes a directory so that a kill half-way cannot leave a damaged one under its name.

    What an earlier kill left of such a removal goes too.
    """
    if not path.exists():
        return
    path.replace(path.with_name(f".removed-{uuid.uuid4().hex}"))
    for doomed in path.parent.glob(".removed-*"):
        shutil.rmtree(doomed, ignore_errors=True)
