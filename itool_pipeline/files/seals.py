"""What unfinished work keeps, and whether it still is what was written: the sha256 of each thing stands beside it.

Of finished artifacts the manifests say it. Here `.sha256/<name>` holds a line for each content that was written under
the name, and is on the disk before the content is.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from itool_pipeline.files.durable import move_into_place, remove_tree, sync_file, write_whole
from itool_pipeline.files.hashes import folder_sha256, known_sha256
from itool_pipeline.files.locks import Say
from itool_pipeline.files.storage_errors import is_damage

_SEALS, _ASIDE = ".sha256", ".damaged"


def write_sealed(target: Path, fill: Callable[[Path], object], *, what: str = "", alone: bool = False) -> Path:
    """`write_whole` for what another run may go on with: `is_sound` then tells whether it is what was written."""

    def fill_and_seal(path: Path) -> None:
        fill(path)
        _seal(target, _sha256(path))

    return write_whole(target, fill_and_seal, what=what, alone=alone)


def is_sound(path: Path) -> bool:
    """Whether the file or folder is what was written. True, too, where nothing is known of it, as an older version
    wrote it, and where it is not there.
    """
    try:
        # The content first: should another process replace it now, its hash is among the lines that are read then.
        sha256 = _sha256(path)
        return sha256.encode() in _seal_of(path).read_bytes().split()
    except FileNotFoundError:
        return True
    except OSError as error:
        if not is_damage(error):
            raise
        return False


def put_aside(path: Path, then: str, say: Say) -> None:
    """Moves what is damaged out of the way, for a look until the work is done, and says so: `then` is what comes next.

    Two processes may do this at once.
    """
    aside = path.parent / _ASIDE / path.name
    aside.parent.mkdir(exist_ok=True)
    remove_sealed(aside)
    with suppress(FileNotFoundError):  # the other has moved it
        move_into_place(path, aside)
        say(f"{path} is damaged, it is not what was written: moved aside to {_ASIDE}; {then}.")


def remove_sealed(path: Path) -> None:
    """Removes the file or folder, with what is known of it, if it is there."""
    if path.is_dir():
        remove_tree(path)
    else:
        path.unlink(missing_ok=True)
    _seal_of(path).unlink(missing_ok=True)


def _seal_of(path: Path) -> Path:
    return path.parent / _SEALS / path.name


def _seal(target: Path, sha256: str) -> None:
    """Adds a line, so that of two processes neither takes away what the other has written."""
    seal = _seal_of(target)
    seal.parent.mkdir(exist_ok=True)
    # What is there now stays sound until it is replaced; of what an older version wrote it is said only now.
    known = seal.read_text(errors="replace").split() if seal.exists() else []
    lines = [line for line in (*([] if known else _sha256_if_there(target)), sha256) if line not in known]
    if lines:
        with seal.open("a") as file:
            file.write("\n" + "\n".join(lines) + "\n")  # the line before may have been torn by a kill
        for written in (seal, seal.parent):
            sync_file(written)


def _sha256_if_there(path: Path) -> list[str]:
    try:
        return [_sha256(path)]
    except OSError:  # not there, or not to be read any more
        return []


def _sha256(path: Path) -> str:
    if not path.is_dir():
        return known_sha256(path)
    return folder_sha256(path, sorted(inner for inner in path.rglob("*") if inner.is_file()))
