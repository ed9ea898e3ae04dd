"""Finished parts of long work, kept so that a kill loses only the part that was being made."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from itool_pipeline.files.json_text import to_json
from itool_pipeline.files.locks import Say
from itool_pipeline.files.seals import is_sound, put_aside, write_sealed

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Parts:
    """Finished parts of long work, in one directory. A part is there whole, or not at all.

    Names are relative (`shard_3.parquet`, `cases/17.json`). Several processes may write different parts at once;
    of two writers of one name, the later wins. `say` hears of parts that are no longer what was written.
    """

    directory: Path
    say: Say = logger.warning

    def path(self, name: str) -> Path:
        """Where the part is or will be. Raises ValueError for a name that leaves the directory."""
        pieces = PurePosixPath(name).parts
        if not pieces or name.startswith("/") or any(piece.startswith(".") for piece in pieces):
            raise ValueError(f"{name!r}: a part's name is relative and no piece of it starts with a dot")
        return self.directory.joinpath(*pieces)

    def has(self, name: str) -> bool:
        """Whether the part is there, and is what was written. A damaged one is moved out of the way, to be made again.

        A process reads a file for that once, for as long as it stays as it is.
        """
        path = self.path(name)
        if not path.exists():
            return False
        if is_sound(path):
            return True
        put_aside(path, "it is made again", self.say)
        return False

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
        return write_sealed(self.path(name), fill, what=f"part {name!r}")

    def spend(self, name: str, seconds: float) -> None:
        """Note what a part took that another process made, to be counted in the artifact's seconds."""
        self.write_text(f"{name}.seconds", repr(seconds))

    def seconds(self) -> float:
        """The sum of what was noted, but for notes that are damaged."""
        names = sorted(path.name for path in self.directory.glob("*.seconds"))
        return sum(float(self.path(name).read_text()) for name in names if self.has(name))
