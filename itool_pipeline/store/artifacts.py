"""Artifacts: the output directory of a step, named by the fingerprint of what determines it.

- `<root>/<asset>/<fingerprint>/` is finished and never changed again. Its `manifest.json` was written last; without a
  whole one nothing is reused.
- `<fingerprint>.partial/` is being made. It survives kills; `parts/` in it holds the finished parts, each with its
  sha256 beside it: one that is damaged is made again.
- `<fingerprint>.tickets/` is the lock of whoever makes it, on whichever machine (see `files/ticket_lock.py`).
- `<fingerprint>.damaged/` was finished and then lost or changed files: kept for a look, never used.
- `<fingerprint>.superseded/` is to be replaced by `force`: kept until what replaces it is finished.

A machine that was taken for dead and comes back may for some seconds work beside the one that took its place, until
it is stopped with LockLost, at the latest before it would finish. That loses nothing: parts appear whole and do not
depend on who makes them, and a rename into place cannot replace what is there. At worst, when the one finishes while
the other writes the same file outside the parts, the artifact is found damaged and is made again.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, cast

from itool_pipeline.files.durable import SCRATCH, move_into_place, remove_tree, sync_file, sync_tree, write_json
from itool_pipeline.files.json_text import plain
from itool_pipeline.files.locks import Say
from itool_pipeline.files.parts import Parts
from itool_pipeline.files.storage_errors import explaining_full_disk
from itool_pipeline.files.ticket_lock import Held, ticket_lock
from itool_pipeline.store.manifest import (
    MANIFEST,
    PARTS,
    Artifact,
    Manifest,
    Origin,
    describe_files,
    load_artifact,
    problems_of,
)

logger = logging.getLogger(__name__)

ASSET = re.compile(r"[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*")
FINGERPRINT = re.compile(r"[0-9a-f]{16}")
State = Literal["finished", "partial", "damaged", "superseded"]
_FOLDER = re.compile(r"([0-9a-f]{16})(?:\.(partial|damaged|superseded))?")


@dataclass(frozen=True, slots=True)
class ArtifactFolder:
    """A folder of an artifact as its name tells it; whether it is whole, `load_artifact` and `problems_of` tell."""

    asset: str
    fingerprint: str
    state: State
    path: Path

    def is_of(self, name: str) -> bool:
        """Whether it is of the asset `name`, or of one in the group `name`."""
        return f"{self.asset}/".startswith(f"{name}/")


@dataclass(frozen=True, slots=True)
class Step:
    """An artifact being made, under its lock. `found` is the finished artifact when there is nothing to make."""

    asset: str
    fingerprint: str
    target: Path
    work: Path
    found: Artifact | None
    held: Held | None = None
    """The lock, where it was made in the store."""
    say: Say = logger.info
    """Hears of damaged parts."""

    @property
    def parts(self) -> Parts:
        """Finished parts, kept over kills and dropped when the artifact is finished."""
        return Parts(self.work / PARTS, self.say)

    def finish(self, origin: Origin, metadata: Mapping[str, Any], seconds: float) -> Artifact:
        """Seals everything in `work` but the parts: manifest last, then one rename into place.

        Raises LockLost, and seals nothing, when another was let in to make the artifact in the place of this process.
        """
        self._require_lock()
        if (self.work / MANIFEST).exists():
            raise ValueError(f"{self.asset}: a step may not write a file named {MANIFEST} of its own")
        manifest = Manifest(
            asset=self.asset,
            fingerprint=self.fingerprint,
            inputs=dict(origin.inputs),
            code_version=origin.code_version,
            run_id=origin.run_id,
            config=plain(origin.config),
            metadata=plain(metadata),
            files=describe_files(self.work),
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            seconds=seconds,
        )
        sync_tree(self.work)
        self._require_lock()  # reading and syncing may have taken minutes
        write_json(self.work / MANIFEST, manifest, indent=2)
        return self.put_into_place(manifest)

    def _require_lock(self) -> None:
        if self.held:
            self.held.require()

    def put_into_place(self, manifest: Manifest) -> Artifact:
        """Renames the sealed work directory to the artifact's name and drops the parts."""
        move_into_place(self.work, self.target)
        remove_tree(_superseded(self.target))
        for leftover in (self.target / PARTS, *self.target.rglob(SCRATCH)):
            shutil.rmtree(leftover, ignore_errors=True)
        return Artifact(self.asset, self.fingerprint, self.target, manifest)


class ArtifactStore:
    """All artifacts under one root. `say` hears of waiting and of directories moved aside."""

    def __init__(self, root: Path, say: Say = logger.info) -> None:
        self.root = root
        self._say = say

    def find(self, asset: str, fingerprint: str, *, deep: bool = True) -> Artifact | None:
        """The finished artifact, or None.

        None also when its manifest is torn or names another artifact, or when a file is missing, or has another size
        or (`deep`, for whoever will read its files) another content than when it was written: `say` hears of it.
        Raises OSError when one may not be read, which is no damage and must not cost an artifact.
        Reading takes no lock and changes nothing; whoever makes the artifact again moves the damaged directory to
        `<fingerprint>.damaged`. A process reads a file for that once, for as long as it stays as it is.
        """
        artifact, problems = self.look(asset, fingerprint, deep=deep)
        if problems:
            self._say(f"{self._place(asset, fingerprint)} is damaged and not used: {'; '.join(problems)}")
            return None
        return artifact

    def look(self, asset: str, fingerprint: str, *, deep: bool = True) -> tuple[Artifact | None, list[str]]:
        """What is there under that name, and what is wrong with it; (None, []) where nothing is."""
        path = self._place(asset, fingerprint)
        if not path.exists():
            return None, []
        artifact = load_artifact(asset, fingerprint, path)
        problems = self.verify(artifact, deep=deep) if artifact else [f"{MANIFEST} is missing or torn"]
        return artifact, problems

    def artifact_folders(self) -> list[ArtifactFolder]:
        """Every folder of an artifact under the root, by asset: finished, being made, or kept for a look.

        Raises OSError for a folder that cannot be listed.
        """
        found, seen = list[ArtifactFolder](), set[tuple[int, int]]()
        # An asset may have been moved to another disk, and linked; and a link may lead back.
        for folder, inner, _ in os.walk(self.root, onerror=_raise_unless_gone, followlinks=True):
            asset = Path(folder).relative_to(self.root).as_posix()
            names = [] if _is_seen(Path(folder), seen) else sorted(inner)
            inner[:] = [name for name in names if ASSET.fullmatch(name) or _FOLDER.fullmatch(name)]
            for name in tuple(inner):
                if (named := _FOLDER.fullmatch(name)) and ASSET.fullmatch(asset):
                    inner.remove(name)  # what is in an artifact is no artifact
                    state = cast("State", named[2] or "finished")
                    found.append(ArtifactFolder(asset, named[1], state, Path(folder, name)))
        return sorted(found, key=lambda one: (one.asset, one.path))

    def verify(self, artifact: Artifact, *, deep: bool = False) -> list[str]:
        """Problems with the artifact's files; empty when whole. `deep` reads them and compares hashes too."""
        return problems_of(artifact, deep=deep)

    @contextmanager
    def open(self, asset: str, fingerprint: str, *, force: bool = False, say: Say | None = None) -> Iterator[Step]:
        """A Step, under the artifact's exclusive lock; waits for another process that holds it.

        `force` first drops the partial artifact, and takes the finished one out of the way until the new one is there.
        A step that is left without `finish`, by an exception or a kill, keeps its partial directory for the next.
        Raises StorageError on a full disk, and LockLost, a StorageError too, when another machine took this process for
        dead and goes on in its place.
        """
        target = self._place(asset, fingerprint)
        work = target.with_name(f"{fingerprint}.partial")
        tell = say or self._say
        with self._lock(asset, fingerprint, tell) as held:
            if force:
                _supersede(target, work)
            found, problems = self.look(asset, fingerprint)
            if problems or found is None:
                _move_aside(target, problems, tell)
                found = self._complete(asset, fingerprint, target, work)
            with explaining_full_disk(f"{asset} {fingerprint}", work):
                if found is None:
                    work.mkdir(parents=True, exist_ok=True)
                yield Step(asset, fingerprint, target, work, found, held, tell)

    @contextmanager
    def parts(self, asset: str, fingerprint: str, *, say: Say | None = None) -> Iterator[Parts]:
        """The parts of an artifact for one of many workers that make them side by side, before a Step gathers them.

        Workers hold the lock together; a Step, `force` or `discard` waits until none works. Ask `find` first inside:
        the artifact may have been finished meanwhile.
        """
        tell = say or self._say
        with self._lock(asset, fingerprint, tell, shared=True):
            yield Parts(self._place(asset, fingerprint).with_name(f"{fingerprint}.partial") / PARTS, tell)

    def discard(self, asset: str, fingerprint: str, *, say: Say | None = None) -> None:
        """`force` for an artifact that many workers make: what is finished goes out of the way, parts are dropped."""
        target = self._place(asset, fingerprint)
        with self._lock(asset, fingerprint, say or self._say):
            _supersede(target, target.with_name(f"{fingerprint}.partial"))

    def _place(self, asset: str, fingerprint: str) -> Path:
        if not ASSET.fullmatch(asset) or not FINGERPRINT.fullmatch(fingerprint):
            raise ValueError(f"not an asset key and a fingerprint: {asset!r}, {fingerprint!r}")
        return self.root / asset / fingerprint

    def _lock(self, asset: str, fingerprint: str, say: Say, *, shared: bool = False) -> AbstractContextManager[Held]:
        folder = self._place(asset, fingerprint).with_name(f"{fingerprint}.tickets")
        return ticket_lock(folder, f"{asset} {fingerprint}", say, shared=shared)

    def _complete(self, asset: str, fingerprint: str, target: Path, work: Path) -> Artifact | None:
        """Finishes what a kill between the manifest and the rename left: all was written, only the name is wrong."""
        sealed = load_artifact(asset, fingerprint, work)
        if sealed is None or self.verify(sealed, deep=True):
            (work / MANIFEST).unlink(missing_ok=True)
            return None
        return Step(asset, fingerprint, target, work, None).put_into_place(sealed.manifest)


def reuse_or_make(
    store: ArtifactStore,
    asset: str,
    fingerprint: str,
    make: Callable[[Step], Mapping[str, Any]],
    *,
    origin: Origin,
    force: bool = False,
    say: Say | None = None,
) -> tuple[Artifact, bool]:
    """The artifact, and whether it was there already.

    `make` writes the files into `step.work`, keeps finished parts in `step.parts`, and returns the metadata. It runs
    under the artifact's lock, so of two processes that want the same artifact one makes it and the other reuses it.
    """
    found = None if force else store.find(asset, fingerprint)
    if found is not None:
        return found, True
    with store.open(asset, fingerprint, force=force, say=say) as step:
        if step.found is not None:
            return step.found, True
        start = time.monotonic()
        metadata = make(step)
        return step.finish(origin, metadata, time.monotonic() - start + step.parts.seconds()), False


def _is_seen(folder: Path, seen: set[tuple[int, int]]) -> bool:
    """Whether the folder is among those seen, by device and inode; it is from now on."""
    with suppress(FileNotFoundError):
        place = folder.stat()
        if (place.st_dev, place.st_ino) in seen:
            return True
        seen.add((place.st_dev, place.st_ino))
    return False


def _raise_unless_gone(error: OSError) -> None:
    """For `os.walk`, which passes over what it cannot list without a word."""
    if not isinstance(error, FileNotFoundError):
        raise error


def _superseded(target: Path) -> Path:
    return target.with_name(f"{target.name}.superseded")


def _supersede(target: Path, work: Path) -> None:
    remove_tree(work)
    if target.exists():
        _rename(target, _superseded(target))


def _rename(target: Path, aside: Path) -> None:
    remove_tree(aside)
    target.replace(aside)
    sync_file(aside.parent)


def _move_aside(target: Path, problems: Sequence[str], say: Say) -> None:
    if not target.exists():
        return
    aside = target.with_name(f"{target.name}.damaged")
    _rename(target, aside)
    say(f"{target} is damaged ({'; '.join(problems)}): moved aside to {aside.name}, making it again.")
