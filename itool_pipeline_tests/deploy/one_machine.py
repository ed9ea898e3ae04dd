"""A cluster of one machine, for tests: Kubernetes' interface as far as Dagster's launcher and executor use it.

A job becomes a process with the arguments and the variables of its container, and nothing else of this process. Images,
volumes and resources are not acted upon; they are in the jobs as they were asked for, for tests to look at.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import yaml

from itool_pipeline_tests.deploy.manifests import ROOT, Manifests

Job = dict[str, Any]
JOB = re.compile(r"/apis/batch/v1/namespaces/itool/jobs(?:/([a-z0-9-]+))?(/status)?$")
PODS = "/api/v1/namespaces/itool/pods"


class OneMachine:
    """Jobs by name as they were asked for, and their processes; the long-lived processes of the deployments too."""

    def __init__(self, root: Path, manifests: Manifests) -> None:
        self.root, self.manifests = root, manifests
        self.jobs: dict[str, Job] = {}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, container: Mapping[str, Any], home: Path) -> None:
        """A container as a process, its output in `<name>.txt`. `home` is what it finds at DAGSTER_HOME."""
        program, *arguments = container["args"]
        module = {"dagster-daemon": "dagster._daemon", "dagster-webserver": "dagster_webserver"}.get(program, program)
        kept = {key: os.environ[key] for key in ("PATH", "HOME", "OMP_NUM_THREADS") if key in os.environ}
        environment = {**kept, **self.manifests.environment(container), "DAGSTER_HOME": str(home)}
        with (self.root / f"{name}.txt").open("wb") as output:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                cwd=ROOT,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def create(self, job: Job) -> Job:
        name = job["metadata"]["name"]
        (container,) = job["spec"]["template"]["spec"]["containers"]
        # No volume brings a file there: it is an empty folder of the image.
        self.start(name, container, Path(tempfile.mkdtemp(prefix=f"{name}.", dir=self.root)))
        self.jobs[name] = job
        return self.with_status(name)

    def with_status(self, name: str) -> Job:
        code = self.processes[name].poll()
        status = {"active": 1} if code is None else {"succeeded": 1} if code == 0 else {"failed": 1}
        return {**self.jobs[name], "status": status}

    def output(self) -> str:
        """The end of what each process printed."""
        return "\n".join(f"== {path.stem}\n{path.read_text()[-2000:]}" for path in sorted(self.root.glob("*.txt")))

    def stop(self) -> None:
        for process in self.processes.values():
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _handler(machine: OneMachine) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.answer(machine.create(body) if JOB.match(self.path) else None)

        def do_GET(self) -> None:
            found = JOB.match(self.path)
            if found and found[1] in machine.jobs:
                self.answer(machine.with_status(found[1]))
            elif self.path.startswith(PODS):
                self.answer({"apiVersion": "v1", "kind": "PodList", "items": []})
            else:
                self.answer(None)

        def answer(self, what: Mapping[str, Any] | None) -> None:
            body = json.dumps(what or {"kind": "Status", "status": "Failure", "code": 404}).encode()
            self.send_response(404 if what is None else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None: ...

    return Handler


@contextmanager
def one_machine(root: Path, manifests: Manifests, server: ThreadingHTTPServer) -> Iterator[OneMachine]:
    """The cluster behind `server`; the processes that it started end with it."""
    machine = OneMachine(root, manifests)
    server.RequestHandlerClass = _handler(machine)  # type: ignore[assignment]
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield machine
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        machine.stop()


def write_client_config(path: Path, port: int) -> None:
    """For Kubernetes' client: where the cluster is."""
    named: Sequence[Mapping[str, Any]] = [{"name": "one", "context": {"cluster": "one", "user": "one"}}]
    path.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "one",
                "contexts": named,
                "clusters": [{"name": "one", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
                "users": [{"name": "one", "user": {}}],
            }
        )
    )
