"""The worker of a `Sandbox`, which has the rules: `python -m itool_pipeline.benchmarks.sandbox.sandbox_child …`."""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import resource
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Work = Callable[[Any], Any]

_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_REFUSED_EVENTS = (
    "ctypes.",
    "fcntl.",
    "ftplib.",
    "glob.",
    "http.",
    "mmap.",
    "os.",
    "pathlib.",
    "pty.",
    "resource.",
    "shutil.",
    "signal.",
    "smtplib.",
    "socket.",
    "sqlite3.",
    "subprocess.",
    "sys.addaudithook",
    "tempfile.",
    "urllib.",
    "webbrowser.",
)


def main() -> None:
    """Prepare the work, leave the network, and serve each line of stdin by a fork."""
    config = json.loads(sys.argv[1])
    module, _, name = config["work"].partition(":")
    work: Work = getattr(importlib.import_module(module), name)(*config["arguments"])
    _import_lazy_modules()
    limits = config["limits"]
    network = "namespace and audit hook" if _leave_network() else "audit hook"
    gc.freeze()
    _say({"network": network})
    for line in sys.stdin.buffer:
        _say(_serve(work, line, limits))


def _import_lazy_modules() -> None:
    """What the standard library imports at first use: no file can be opened later."""
    for name in ("_strptime", "calendar", "decimal", "encodings.idna", "fractions", "locale", "traceback"):
        importlib.import_module(name)


def _leave_network() -> bool:
    """Whether the kernel gave this process an empty network of its own; an ordinary user needs a user namespace too."""
    if not sys.platform.startswith("linux"):
        return False
    unshare = ctypes.CDLL(None, use_errno=True).unshare
    return any(unshare(flags) == 0 for flags in (_CLONE_NEWNET, _CLONE_NEWUSER | _CLONE_NEWNET))


def _say(message: Mapping[str, Any]) -> None:
    sys.stdout.buffer.write(json.dumps(message).encode() + b"\n")
    sys.stdout.buffer.flush()


def _serve(work: Work, line: bytes, limits: Mapping[str, Any]) -> Mapping[str, Any]:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        try:
            _confined(work, line, limits, writing)
        finally:
            os._exit(0)
    os.close(writing)
    text, whole = _read(reading, limits["answer_size"])
    os.close(reading)
    if not whole:
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    if not whole:
        return {"error": f"answered with more than {limits['answer_size']} bytes"}
    if os.WIFSIGNALED(status):
        return {"error": _ended_by(os.WTERMSIG(status), limits)}
    try:
        answer: Mapping[str, Any] = json.loads(text)
    except ValueError:
        return {"error": "ended without an answer"}
    return answer


def _read(pipe: int, most: int) -> tuple[bytes, bool]:
    parts, size = [], 0
    while part := os.read(pipe, 1 << 20):
        parts.append(part)
        size += len(part)
        if size > most:
            return b"", False
    return b"".join(parts), True


def _ended_by(number: int, limits: Mapping[str, Any]) -> str:
    if number == signal.SIGXCPU:
        return f"used more than {limits['cpu_seconds']} s of CPU time"
    if number == signal.SIGKILL:
        return "was killed from outside, most likely by the kernel because memory ran out"
    return f"was ended by {signal.Signals(number).name}"


def _confined(work: Work, line: bytes, limits: Mapping[str, Any], pipe: int) -> None:
    """Never returns to the caller's work: whatever happens becomes an answer in the pipe."""
    refusals: list[str] = []
    try:
        request = json.loads(line)
        confine(limits, Path.cwd(), refusals)
        text = json.dumps({"value": work(request)})
    except MemoryError:
        text = json.dumps({"error": f"used more than {limits['address_space']} bytes of memory"})
    except BaseException as error:
        text = json.dumps({"error": f"{type(error).__name__}: {error}"[:2000]})
    if refusals:
        text = json.dumps({"error": f"tried what is not allowed: {refusals[0]}"})
    data = text.encode()
    while data:
        data = data[os.write(pipe, data) :]


def confine(limits: Mapping[str, Any], folder: Path, refusals: list[str]) -> None:
    """Limit this process for good. What the audit hook refuses is noted in `refusals` too."""
    # At the soft limit the kernel sends SIGXCPU; at the hard one SIGKILL, as it does where memory runs out.
    resource.setrlimit(resource.RLIMIT_CPU, (limits["cpu_seconds"], limits["cpu_seconds"] + 1))
    for what, most in (
        (resource.RLIMIT_AS, limits["address_space"]),
        (resource.RLIMIT_FSIZE, limits["file_size"]),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (most, most))
    inside = f"{os.path.realpath(folder)}{os.sep}"

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path = arguments[0]
            allowed = isinstance(path, int) or os.path.realpath(os.fsdecode(path)).startswith(inside)
        else:
            allowed = not event.startswith(_REFUSED_EVENTS)
        if not allowed:
            refusals.append(f"{event} {arguments[:1]!r}"[:200])
            raise PermissionError(f"{event} is not allowed here")

    sys.addaudithook(hook)


if __name__ == "__main__":
    main()
