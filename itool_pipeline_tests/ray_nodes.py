"""A Ray cluster of two nodes on this machine, for tests and drills. Its GPUs are pretended."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from itool_pipeline_tests.drills import DEADLINE_SECONDS, ROOT

NODES = 2


@dataclass(frozen=True)
class Job:
    """A step as Ray ran it."""

    step: str
    node: str
    status: str
    message: str


class Cluster:
    """Two nodes of two cores and one GPU each, declared and not there. `at`: the address of the head's job server."""

    def __init__(self, folder: Path, **variables: str) -> None:
        self.folder, self.variables = folder, {"OMP_NUM_THREADS": "1", **variables}
        self._nodes: list[subprocess.Popen[bytes]] = []
        self.at = ""

    def __enter__(self) -> Cluster:
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def _start(self) -> None:
        port, dashboard = free_port(), free_port()
        self.at = f"http://127.0.0.1:{dashboard}"
        self._add("--head", f"--port={port}", f"--dashboard-port={dashboard}", f"--temp-dir={self.folder}")
        wait_until(lambda: len(self.nodes()) == 1)
        self._add(f"--address=127.0.0.1:{port}")
        wait_until(lambda: len(self.nodes()) == NODES)

    def _stop(self) -> None:
        for node in reversed(self._nodes):
            node.terminate()
            node.wait(DEADLINE_SECONDS)

    def nodes(self) -> set[str]:
        """The ids of those that are alive; none while the head does not answer."""
        from ray.util.state import list_nodes

        try:
            return {node.node_id for node in list_nodes(address=self.at) if node.state == "ALIVE"}
        except Exception:  # of many classes, until it is there
            return set()

    def jobs(self, run_id: str) -> list[Job]:
        """The steps of a run."""
        from ray.job_submission import JobSubmissionClient

        found = JobSubmissionClient(self.at).list_jobs()
        return [
            Job(job.metadata["dagster/op"], job.driver_node_id or "", job.status.value, job.message or "")
            for job in found
            if job.metadata and job.metadata.get("dagster/run-id") == run_id
        ]

    def _add(self, *arguments: str) -> None:
        small = ("--num-cpus=2", "--num-gpus=1", "--object-store-memory=100000000", "--disable-usage-stats", "--block")
        ray = (sys.executable, "-c", "import sys; from ray.scripts.scripts import main; sys.exit(main())", "start")
        with (self.folder / "output.txt").open("ab") as output:
            node = subprocess.Popen(
                [*ray, *arguments, *small],
                cwd=ROOT,
                env={**os.environ, **self.variables},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._nodes.append(node)


def path_to_dagster() -> str:
    """Steps are started as `dagster api …`, whichever that is on a node: this environment's comes first."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def wait_until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.1)
