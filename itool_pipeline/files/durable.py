"""Durable writing: a file is whole under its name or absent, also after a kill or a power cut."""

from __future__ import annotations

import errno
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from itool_pipeline.errors import ActionableError
from itool_pipeline.files.json_text import to_json

Say = Callable[[str], None]
"""Receives one line for a person: why something waits, what was moved aside."""

MEBIBYTE = 2**20


class StorageError(ActionableError):
    """The storage cannot do what was asked. The message says what, where, and what to do about it."""


def is_disk_full(error: BaseException) -> bool:
    """Whether `error` means a full disk or an exhausted quota; native libraries only say so in their text."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return "No space left on device" in str(error) or "Disk quota exceeded" in str(error)


@contextmanager
def explaining_full_disk(what: str, place: Path) -> Iterator[None]:
    """Turns a full disk, met while writing `what` under `place`, into a StorageError that says what to do."""
    try:
        yield
    except Exception as error:
        if isinstance(error, StorageError) or not is_disk_full(error):
            raise
        existing = next(folder for folder in (place, *place.parents) if folder.exists())
        free = shutil.disk_usage(existing).free / MEBIBYTE
        raise StorageError(
            f"The disk is full: {what} could not be written to {place} ({free:.0f} MiB free). Free some space (any "
            "folder of artifacts that is no longer needed may be deleted; it is made again when asked for) or point "
            "ITOOL_STORAGE at a larger disk, then run again: finished parts are kept."
        ) from error


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


@dataclass(frozen=True, slots=True)
class Parts:
    """Finished parts of long work, in one directory. A part is there whole, or not at all.

    Names are relative (`shard_3.parquet`, `cases/17.json`). Several processes may write different parts at once;
    of two writers of one name, the later wins.
    """

    directory: Path

    def path(self, name: str) -> Path:
        """Where the part is or will be. Raises ValueError for a name that leaves the directory."""
        pieces = PurePosixPath(name).parts
        if not pieces or name.startswith("/") or any(piece.startswith(".") for piece in pieces):
            raise ValueError(f"{name!r}: a part's name is relative and no piece of it starts with a dot")
        return self.directory.joinpath(*pieces)

    def has(self, name: str) -> bool:
        return self.path(name).exists()

    def names(self) -> list[str]:
        """All finished parts, sorted; a directory part is named once, if it was written at the top."""
        return sorted(p.name for p in self.directory.glob("*") if not p.name.startswith("."))

    def read_json(self, name: str) -> Any:
        return json.loads(self.path(name).read_text(encoding="utf-8"))

    def write_bytes(self, name: str, content: bytes) -> Path:
        return self.write(name, lambda path: _fill(path, content))

    def write_text(self, name: str, content: str) -> Path:
        return self.write_bytes(name, content.encode("utf-8"))

    def write_json(self, name: str, content: Any) -> Path:
        return self.write_text(name, to_json(content))

    def write(self, name: str, fill: Callable[[Path], object]) -> Path:
        """Keeps what `fill` writes to the path it is handed (a file, or a directory that it makes).

        An existing file of that name is replaced. An existing directory is refused with a StorageError, because no
        rename can replace it at one stroke: write under a new name, then `remove` the old one.
        """
        target = self.path(name)
        if target.is_dir():
            raise StorageError(f"{target} is there already; write a directory under a new name, then remove the old")
        scratch = self.directory / ".tmp" / uuid.uuid4().hex
        with explaining_full_disk(f"part {name!r}", self.directory):
            try:
                scratch.mkdir(parents=True)
                fill(scratch / target.name)
                sync_tree(scratch / target.name)
                target.parent.mkdir(parents=True, exist_ok=True)
                move_into_place(scratch / target.name, target)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
        return target

    def spend(self, name: str, seconds: float) -> None:
        """Note what a part took that another process made, to be counted in the artifact's seconds."""
        self.write_text(f"{name}.seconds", repr(seconds))

    def seconds(self) -> float:
        """The sum of what was noted."""
        return sum(float(path.read_text()) for path in sorted(self.directory.glob("*.seconds")))

    def remove(self, name: str) -> None:
        """Removes the part, if it is there."""
        path = self.path(name)
        if path.is_dir():
            remove_tree(path)
        else:
            path.unlink(missing_ok=True)


def _fill(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def remove_tree(path: Path) -> None:
    """Removes a directory so that a kill half-way cannot leave a damaged one under its name.

    What an earlier kill left of such a removal goes too.
    """
    if not path.exists():
        return
    path.replace(path.with_name(f".removed-{uuid.uuid4().hex}"))
    for doomed in path.parent.glob(".removed-*"):
        shutil.rmtree(doomed, ignore_errors=True)
