"""Locks between processes that a killed holder cannot leave behind."""

from __future__ import annotations

import fcntl
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

Say = Callable[[str], None]
"""Receives one line for a person: why something waits, what was moved aside."""
POLL_SECONDS = 0.2
REMIND_SECONDS = 60.0


@contextmanager
def file_lock(path: Path, what: str, say: Say, *, shared: bool = False) -> Iterator[None]:
    """Holds a lock on the file `path`: alone, or with any number of other `shared` holders.

    Waits for as long as it takes (the holder may be training a model), telling `say` who holds it at once and every
    minute. The kernel frees the lock when its holder ends, however it ends. The file itself stays: removing it would
    let two processes hold locks on two files of one name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        _wait_for(descriptor, path, f"{what} ({path})", say, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        _sign(descriptor)
        yield
    finally:
        os.close(descriptor)


def is_held(path: Path) -> bool:
    """Whether a process holds a lock on the file `path` now; False also when there is no such file."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _wait_for(descriptor: int, path: Path, what: str, say: Say, kind: int) -> None:
    next_word = 0.0
    while True:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= next_word:
                say(f"Waiting for {what}: in use by {path.read_text() or 'another process'}.")
                next_word = time.monotonic() + REMIND_SECONDS
            time.sleep(POLL_SECONDS)


def _sign(descriptor: int) -> None:
    """Writes who holds the lock, for the message of those who wait."""
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
