"""What is in files, as sha256 in hexadecimal."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable
from pathlib import Path

_BLOCK_BYTES = 1 << 20
_SETTLED_NS = 2_000_000_000
"""Clocks of file systems are coarse: what was written so lately may be written again without a trace in its time."""

_Identity = tuple[int, int, int, int]
_known: dict[tuple[Path, ...], tuple[list[_Identity], str]] = {}


def file_sha256(path: Path) -> str:
    """Of one file. Raises OSError when it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def known_sha256(*paths: Path) -> str:
    """`joined_sha256`, read once by this process for as long as sizes, times and inodes are the same.

    It is not remembered on the disk: of what a bad disk or a copy changes, size and time may tell nothing, so what
    another run has seen is no proof, and a gigabyte takes less than a second.
    """
    before = [_identity(path) for path in paths]
    known = _known.get(paths)
    if known and known[0] == before:
        return known[1]
    sha256 = joined_sha256(paths)
    written = max((modified for _, _, _, modified in before), default=0)
    if time.time_ns() - written > _SETTLED_NS and [_identity(path) for path in paths] == before:
        _known[paths] = before, sha256
    return sha256


def _identity(path: Path) -> _Identity:
    """What changes when the file does; the last is when it was written, in nanoseconds."""
    status = path.stat()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def joined_sha256(paths: Iterable[Path]) -> str:
    """Of the files one after the other, as if they were one. Raises OSError when one cannot be read."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)
    return digest.hexdigest()


def folder_sha256(directory: Path, paths: Iterable[Path]) -> str:
    """Of the names below `directory` and the contents of its files `paths`, in their order. Raises OSError."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path.relative_to(directory)} {file_sha256(path)}\n".encode())
    return digest.hexdigest()
