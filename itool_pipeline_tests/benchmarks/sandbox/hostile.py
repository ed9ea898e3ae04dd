"""Work for a sandbox that tries everything that it must not do."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

seen: list[Any] = []


def prepare(outside: str) -> Callable[[Any], Any]:
    """`outside` is a folder that the work must neither read nor write."""

    def work(request: Any) -> Any:
        seen.append(request)
        return ACTIONS[request](Path(outside))

    return work


def _swallowed(outside: Path) -> str:
    try:
        return (outside / "secret.txt").read_text()
    except OSError:
        return "nothing happened"


def _fork(outside: Path) -> int:
    pid = os.fork()
    if pid == 0:
        (outside / "forked.txt").touch()
        os._exit(0)
    return pid


def _grow(outside: Path) -> int:
    blocks = []
    while True:
        blocks.append(bytearray(1 << 24))


def _spin(outside: Path) -> None:
    while True:
        pass


def _write_inside(outside: Path) -> str:
    file = Path("own.txt")
    file.write_text("mine")
    return file.read_text()


def _write_much_inside(outside: Path) -> int:
    return Path("own.txt").write_bytes(bytes(1 << 22))


def _connect(outside: Path) -> None:
    socket.create_connection(("127.0.0.1", 9), timeout=1)


def _load_library(outside: Path) -> int:
    return int(ctypes.CDLL(None).getpid())


ACTIONS: dict[str, Callable[[Path], Any]] = {
    "add": lambda outside: 1 + 1,
    "seen": lambda outside: len(seen),
    "raise": lambda outside: 1 // 0,
    "exit": lambda outside: sys.exit(3),
    "die": lambda outside: os._exit(3),
    "unanswerable": lambda outside: object(),
    "read": lambda outside: (outside / "secret.txt").read_text(),
    "swallow": _swallowed,
    "list": lambda outside: list(outside.iterdir()),
    "write": lambda outside: (outside / "written.txt").write_text("x"),
    "remove": lambda outside: (outside / "secret.txt").unlink(),
    "write_inside": _write_inside,
    "write_much_inside": _write_much_inside,
    "socket": _connect,
    "look_up": lambda outside: socket.getaddrinfo("localhost", 80),
    "subprocess": lambda outside: subprocess.run(["true"], check=True).returncode,
    "shell": lambda outside: os.system(f"touch {outside / 'shell.txt'}"),
    "fork": _fork,
    "library": _load_library,
    "spin": _spin,
    # As the kernel ends it where memory runs out.
    "killed": lambda outside: signal.raise_signal(signal.SIGKILL),
    "sleep": lambda outside: time.sleep(60),
    "grow": _grow,
    "power": lambda outside: 10 ** (10**9) > 0,
    "much": lambda outside: "x" * (1 << 23),
}
