"""What is in files, as sha256 in hexadecimal."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

_BLOCK_BYTES = 1 << 20


def file_sha256(path: Path) -> str:
    """Of one file. Raises OSError when it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
