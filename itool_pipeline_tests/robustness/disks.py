"""A disk that is full, out of inodes, or read-only in the middle of a run; and storages in odd places."""

from __future__ import annotations

import os
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from itool_pipeline.files.storage_errors import MEBIBYTE
from itool_pipeline_tests.drills import DEADLINE_SECONDS, Storage
from itool_pipeline_tests.robustness.outcome import Outcome
from itool_pipeline_tests.robustness.scene import Scene, folder, scene
from itool_pipeline_tests.small_experiment import RUN

NO_ROOT = "a file system of its own can only be mounted by root"
ROOM_MIB = 256

Perform = Callable[[Outcome, int, random.Random], None]
Break = Callable[[Path], Callable[[], None]]
"""Makes the mounted disk unusable, and returns what makes it usable again."""


@contextmanager
def small_disk(options: str) -> Iterator[Path]:
    """A file system in memory, mounted for a while. Raises PermissionError where that is not allowed."""
    with folder() as root:
        disk = root / "disk"
        disk.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk)], capture_output=True)
        if done.returncode:
            raise PermissionError(done.stderr.decode().strip())
        try:
            yield disk
        finally:
            subprocess.run(["umount", "--lazy", str(disk)], check=True)


def fill(disk: Path) -> Callable[[], None]:
    """No room for another byte."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(MEBIBYTE))
    with ballast.open("ab", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x")
    return ballast.unlink


def use_up_inodes(disk: Path) -> Callable[[], None]:
    """No room for another name, though for any number of bytes."""
    ballast = disk / "ballast"
    ballast.mkdir()
    with suppress(OSError):
        for number in range(10**6):
            (ballast / str(number)).touch()

    def free() -> None:
        for path in ballast.iterdir():
            path.unlink()

    return free


def make_read_only(disk: Path) -> Callable[[], None]:
    """As the kernel does with a disk that fails. Waits for a moment in which nobody has a file open to write."""

    def remount(how: str) -> bool:
        return subprocess.run(["mount", "-o", f"remount,{how}", str(disk)], capture_output=True).returncode == 0

    deadline = time.monotonic() + 60
    while not remount("ro") and time.monotonic() < deadline:
        time.sleep(0.01)
    return lambda: print("", end="") if remount("rw") else None


def broken(disk_options: str, break_it: Break) -> Perform:
    """A drill: the disk is broken at a random moment, the run must end in words; mended, the next one goes on."""

    def perform(outcome: Outcome, tries: int, draw: random.Random) -> None:
        if os.geteuid() != 0:
            outcome.skipped = NO_ROOT
            return
        s, ended = scene(), 0
        for _ in range(tries):
            try:
                with small_disk(disk_options) as disk:
                    problems, hit = _one(s, s.storage(disk / "storage"), disk, break_it, draw)
            except PermissionError as error:
                outcome.skipped = f"{NO_ROOT} ({error})"
                return
            ended += hit
            outcome.tried(problems)
        outcome.note = f"{ended} of the runs were stopped by it"

    return perform


def _one(s: Scene, storage: Storage, disk: Path, break_it: Break, draw: random.Random) -> tuple[list[str], bool]:
    log = s.root / "output.txt"
    process = storage.start(RUN, log)
    with suppress(subprocess.TimeoutExpired):
        process.wait(draw.uniform(0.02, 0.9) * s.seconds)
    mend = break_it(disk)
    code = process.wait(DEADLINE_SECONDS)
    mend()
    said = log.read_text(errors="replace")
    problems = last_words_problems(said) if code else []
    done = storage.start(RUN, log).wait(DEADLINE_SECONDS)
    if done:
        return [*problems, f"the next run ended with {done}: {log.read_text(errors='replace')[-600:]}"], bool(code)
    return [*problems, *s.differences(storage)], bool(code)


def last_words_problems(said: str) -> list[str]:
    """What is wrong with the last words of a run that failed for a reason that a person can mend."""
    last = said.strip().splitlines()[-1] if said.strip() else ""
    if "mistake in the program" in last or last.startswith((" ", "Traceback")) or not last.endswith((".", "kept.")):
        return [f"the last words are no cause and remedy: {said.strip()[-900:]}"]
    return []


def odd_path(outcome: Outcome, tries: int, draw: random.Random) -> None:
    """Spaces, quotes, letters of other scripts, and marks that shells, URLs and globs read."""
    s = scene()
    names = ["mit Leerzeichen", "ünï cödé 文件 данные", "it's 50% #1 [a-b] {x} & co", "emoji 🦉"]
    for name in names[:tries]:
        with folder() as root:
            (root / name).mkdir()
            storage = s.storage(root / name / "storage")
            done = storage.run(*RUN)
            outcome.tried([f"{name}: {done.text[-600:]}"] if done.code else s.differences(storage))


def other_file_system(outcome: Outcome, tries: int, draw: random.Random) -> None:
    """The storage on one file system, the folder for temporary files on another, where no rename leads across."""
    if os.geteuid() != 0:
        outcome.skipped = NO_ROOT
        return
    s = scene()
    for _ in range(tries):
        with small_disk(f"size={ROOM_MIB}m") as disk:
            storage = s.storage(disk / "storage")
            done = storage.run(*RUN)
            outcome.tried([done.text[-600:]] if done.code else s.differences(storage))
