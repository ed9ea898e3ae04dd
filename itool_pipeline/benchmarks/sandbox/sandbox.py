"""A process of its own for what a model asks to have run: limited in time and memory, without network or files.

A `Sandbox` starts one worker (`sandbox_child`), which imports what the work needs and then serves requests as lines of
JSON over pipes. Each request is served by a fork of the worker, so none sees what another left behind, and one that
dies takes nothing with it. What holds it:

- the kernel: `resource.setrlimit` on address space, CPU seconds, file size, open files and processes; a network
  namespace of its own where the system gives one to an ordinary user (most Linux systems do);
- the interpreter: an audit hook that refuses every socket, process, foreign-function call and file outside the
  worker's private folder, and reports it even where the code swallows the exception. An audit hook does not hold
  native code; what runs here is chosen from a list of Python methods, with literal arguments;
- the parent: a request that takes longer than `seconds` on the clock has its whole process group killed.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import itool_pipeline
from itool_pipeline.errors import ActionableError

STARTING_SECONDS = 120.0
_ROOT = Path(itool_pipeline.__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may use. `seconds` is wall-clock time, the sizes are bytes."""

    seconds: float = 30.0
    cpu_seconds: int = 10
    address_space: int = 1 << 30
    file_size: int = 1 << 20
    answer_size: int = 1 << 26


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Answer:
    """The value that the work returned; or, where it was stopped or failed, one sentence that says why."""

    value: Any = None
    error: str = ""


class SandboxError(ActionableError):
    """The worker could not be started."""


class Sandbox:
    """One worker for requests one after another; a context manager.

    work       `package.module:function`. The function is called once, with `arguments`, before anything is limited,
               and returns what is called with each request. Requests and values are JSON.
    """

    def __init__(self, work: str, arguments: Sequence[str] = (), limits: Limits = DEFAULT_LIMITS) -> None:
        self._config = {"work": work, "arguments": list(arguments), "limits": asdict(limits)}
        self._limits = limits
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._unread = b""
        self.network = ""
        """How the worker is kept from the network, once it runs: `namespace and audit hook` or `audit hook`."""

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def run(self, request: Any) -> Answer:
        """Serve one request. Never raises for what the work does. Raises SandboxError when no worker starts."""
        process = self._started()
        try:
            assert process.stdin is not None
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
            line = self._line(self._limits.seconds)
        except (BrokenPipeError, TimeoutError) as error:
            self.close()
            late = isinstance(error, TimeoutError)
            return Answer(error=f"took more than {self._limits.seconds:g} s" if late else "the worker died")
        return Answer(**json.loads(line))

    def close(self) -> None:
        """Kill the worker's whole process group and remove its folder. The next request starts a new one."""
        process, self._process, self._unread = self._process, None, b""
        if process is not None:
            with suppress(ProcessLookupError):  # it may have ended by itself
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            for pipe in filter(None, (process.stdin, process.stdout)):
                with suppress(BrokenPipeError):  # something may still wait to be sent
                    pipe.close()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        self.close()
        self._folder = tempfile.TemporaryDirectory(prefix="itool-sandbox-")
        errors = Path(self._folder.name) / "errors.txt"
        with errors.open("wb") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "itool_pipeline.benchmarks.sandbox.sandbox_child", json.dumps(self._config)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                cwd=self._folder.name,
                env={"PYTHONPATH": str(_ROOT), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0"},
                start_new_session=True,
            )
        try:
            self.network = json.loads(self._line(STARTING_SECONDS))["network"]
        except (BrokenPipeError, TimeoutError) as error:
            said = errors.read_text(errors="replace").strip()[-2000:]
            self.close()
            raise SandboxError(
                f"the sandbox did not start; its process said: {said or 'nothing'}\n"
                "Where a module is missing, install the package with its dependencies (`make demo` does); where it "
                "said nothing, free some memory. Then run again: what is finished is kept."
            ) from error
        return self._process

    def _line(self, seconds: float) -> bytes:
        """The worker's next line. Raises TimeoutError, or BrokenPipeError when the worker has ended."""
        assert self._process is not None
        assert self._process.stdout is not None
        pipe, deadline = self._process.stdout.fileno(), time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(pipe, selectors.EVENT_READ)
            while b"\n" not in self._unread:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise TimeoutError
                received = os.read(pipe, 1 << 20)
                if not received:
                    raise BrokenPipeError
                self._unread += received
        line, _, self._unread = self._unread.partition(b"\n")
        return line
