"""Which process it is, beyond its number, and whether it still lives: known for sure where its number is seen."""

from __future__ import annotations

import os
import socket
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path

import psutil

PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """A process on some machine.

    host     the machine's name, for people
    place    the processes among which `pid` is one: a boot of a machine and, in containers, their own numbering of it
    started  in the units of its system: a number that is used again belongs to another process
    """

    host: str
    place: str
    pid: int
    started: str

    @staticmethod
    def own() -> ProcessIdentity:
        """Of this process."""
        return ProcessIdentity(_host(), place(), os.getpid(), _started(os.getpid()) or "")

    def is_alive(self) -> bool | None:
        """Whether it lives; None where this process cannot tell: of another machine or container, or hidden from it."""
        if self.place != place():
            return None
        try:
            return _started(self.pid) == self.started
        except PermissionError:
            return None

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def place() -> str:
    """Where process numbers mean what they mean here."""
    host = _host()
    if sys.platform != "linux":
        return f"{host} {uuid.getnode():012x}"
    try:
        return f"{host} {(PROC / 'sys/kernel/random/boot_id').read_text().strip()} {(PROC / 'self/ns/pid').readlink()}"
    except OSError:  # a sandbox shows less: no other process is known to be beside this one
        return uuid.uuid4().hex


def _host() -> str:
    return socket.gethostname()[:64]


def _started(pid: int) -> str | None:
    """When the process began; None when there is none, or only what its parent has not yet taken note of.

    Raises PermissionError when the process is hidden.
    """
    if sys.platform != "linux":
        try:
            return f"{psutil.Process(pid).create_time():.2f}"
        except psutil.AccessDenied as error:
            raise PermissionError(str(error)) from error
        except psutil.NoSuchProcess:
            return None
    try:
        # Ticks since the boot. What psutil makes of them moves when the clock is set. The command's name, in
        # parentheses, may hold anything.
        fields = (PROC / f"{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        if psutil.pid_exists(pid):
            raise PermissionError(f"process {pid} is hidden") from None
        return None
    state, threads, started = fields[0], int(fields[17]), fields[19]
    # Of a killed process, threads that wait for a disk go on to their end.
    return None if state in "ZX" and threads <= 1 else started
