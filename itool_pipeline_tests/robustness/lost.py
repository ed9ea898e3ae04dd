"""What a kill loses: what was done, or under way, and is not kept; and what was kept and is made again all the same."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pyarrow.parquet as pq

from itool_pipeline.store.artifacts import FINGERPRINT
from itool_pipeline.store.manifest import MANIFEST, PARTS

KEPT = re.compile(r"trees_\d+\.parquet|step_\d+|\w+_\d+\.json")
"""The names of parts: shards, checkpoints, batches of answers. None of them is ever written twice."""
OF_A_SHARE = ".toldshare_"
"""How the names of the files begin in which a search notes the trees that it has searched, an op of it each."""


@dataclass(frozen=True, slots=True)
class Lost:
    """By one kill.

    steps      optimizer steps done since the last checkpoint
    shards     of a search, done or under way, that are not kept
    processes  that were searching, each of which may have one shard under way
    """

    steps: int
    shards: int
    processes: int

    def problems(self, checkpoint_every: int) -> list[str]:
        """Why this is too much: empty for no more than the steps between two checkpoints, and a shard of a process."""
        steps, shards = self.steps > checkpoint_every, self.shards > max(self.processes, 1)
        return [*([f"a kill lost {self.steps} optimizer steps"] if steps else []),
                *([f"a kill lost {self.shards} shards of {self.processes} processes"] if shards else [])]  # fmt: skip


def lost(root: Path) -> Lost:
    """By a kill of all that works in the storage at `root` now. Where it stands still, that is exact; steps on Ray go
    on meanwhile, and after the kill, so that what is counted is the most that can be lost.
    """
    steps = 0
    unfinished = [path for path in _folders(root) if path.name == PARTS]
    for parts in unfinished:
        checkpoints = [int(path.name.removeprefix("step_")) for path in parts.glob("step_*")]
        steps = max(steps, _last(parts / ".told.jsonl", "train") - max(checkpoints, default=0))
    searching = list(_searches(root))
    trees = sum(_last(told, "search") for parts in unfinished for told in parts.glob(f"{OF_A_SHARE}*.jsonl"))
    kept = sum(_rows(path) for parts in unfinished for path in parts.glob("trees_*.parquet"))
    # A shard is one tree in the drills' experiment, and trees are searched one after the other.
    return Lost(steps, max(trees - kept, len(searching)), len(searching))


def _searches(root: Path) -> Iterator[str]:
    """The open file of each op that searches."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):  # it may end meanwhile
            files = [Path(file.path) for file in process.open_files()]
            yield from (str(path) for path in files if path.name.startswith(OF_A_SHARE) and path.is_relative_to(root))


def _rows(shard: Path) -> int:
    """None of one that has just gone, into the artifact."""
    with suppress(FileNotFoundError):
        count: int = pq.read_metadata(shard).num_rows
        return count
    return 0


def _last(told: Path, kind: str) -> int:
    """The last step of that kind which the file names, if it is there. A last line that is torn names none."""
    try:
        lines = [json.loads(line) for line in told.read_bytes().rpartition(b"\n")[0].splitlines()]
    except FileNotFoundError:
        return 0
    return max((line["step"] for line in lines if line.get("kind") == kind), default=0)


@dataclass
class Watch:
    """Remembers what the storage at `root` keeps, by name, and what of it was made a second time."""

    root: Path
    again: set[str] = field(default_factory=set)
    _known: dict[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def kept(self) -> int:
        """How many things were ever kept."""
        return len(self._known)

    def look(self) -> None:
        """To be called all the time while a run goes on: what is finished drops its parts."""
        for folder in _folders(self.root):
            names = [MANIFEST] if folder.name != PARTS else filter(KEPT.fullmatch, _names_in(folder))
            for name in names:
                with suppress(FileNotFoundError):
                    self._note(folder / name)

    def _note(self, path: Path) -> None:
        status, name = path.stat(), path.relative_to(self.root).as_posix()
        identity = status.st_ino, status.st_mtime_ns
        if self._known.setdefault(name, identity) != identity:
            self.again.add(name)
            self._known[name] = identity


def _folders(root: Path) -> Iterator[Path]:
    """Those of finished artifacts, and of the parts of unfinished ones; what goes away meanwhile is passed over."""
    for place, inner, _ in os.walk(root / "artifacts"):
        folder = Path(place)
        if FINGERPRINT.fullmatch(folder.name) or folder.name == PARTS:
            inner.clear()
            yield folder


def _names_in(folder: Path) -> list[str]:
    with suppress(FileNotFoundError):
        return [path.name for path in folder.iterdir()]
    return []
