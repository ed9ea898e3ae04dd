"""Finished parts of long work, kept so that a kill loses only the part that was being made."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from itool_pipeline.files.durable import remove_tree, write_whole
from itool_pipeline.files.json_text import to_json


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

    def read_json(self, name: str) -> Any:
        return json.loads(self.path(name).read_text(encoding="utf-8"))

    def write_bytes(self, name: str, content: bytes) -> Path:
        return self.write(name, lambda path: path.write_bytes(content))

    def write_text(self, name: str, content: str) -> Path:
        return self.write_bytes(name, content.encode("utf-8"))

    def write_json(self, name: str, content: Any) -> Path:
        return self.write_text(name, to_json(content))

    def write(self, name: str, fill: Callable[[Path], object]) -> Path:
        """Keeps what `fill` writes to the path it is handed: a file, or a directory that it makes.

        An existing file of that name is replaced; an existing directory is refused, see `write_whole`.
        """
        return write_whole(self.path(name), fill, what=f"part {name!r}")

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
