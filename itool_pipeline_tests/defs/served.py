"""Dagster's own servers over a home, and what their GraphQL answers: what the UI asks and shows."""

from __future__ import annotations

import json
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.error import URLError

import psutil

from itool_pipeline_tests.defs.tiny_runs import TinyHome

WEB_SERVER = ("dagster_webserver",)
WITH_DAEMON = ("dagster", "dev")
"""What `make ui` starts: web server, daemon and code server."""


@dataclass(frozen=True)
class Ui:
    """A web server that answers."""

    address: str

    def ask(self, query: str, **variables: Any) -> Any:
        """The `data` of the answer, which has no errors."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(f"{self.address}/graphql", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request) as response:
            answer = json.load(response)
        assert "errors" not in answer, answer
        return answer["data"]


@contextmanager
def running(home: TinyHome, *arguments: str) -> Iterator[None]:
    """A process that serves, and those that it started."""
    process = home.start(arguments)
    try:
        yield
    finally:
        started = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        with suppress(subprocess.TimeoutExpired):  # servers take their time where others compute
            process.wait(timeout=20)
        for one in (*started, process):
            with suppress(psutil.NoSuchProcess, ProcessLookupError):
                one.kill()
        process.wait()


@contextmanager
def ui(home: TinyHome, module: str, server: tuple[str, ...] = WEB_SERVER) -> Iterator[Ui]:
    """The UI over the definitions in `module`."""
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        with suppress(URLError), urllib.request.urlopen(f"{address}/server_info") as response:
            return bool(response.status == 200)
        return False

    with running(home, *server, "-m", module, "-h", "127.0.0.1", "-p", str(port)):
        home.wait_until(answers, 300)
        yield Ui(address)
