"""Runs of `tiny_definitions` by Dagster's own commands, in a home of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import dagster as dg

ROOT = Path(__file__).parents[2]
MODULE = "itool_pipeline_tests.defs.tiny_definitions"
PARTITION = "demo"
TAGS = ("--tags", f'{{"dagster/partition": "{PARTITION}"}}')
JOB = ("dagster", "job", "execute", "-m", MODULE, "-j", "tiny", *TAGS)
LAUNCH = ("dagster", "job", "launch", "-m", MODULE, "-j", "tiny", *TAGS)
BACKFILL = ("dagster", "job", "backfill", "-m", MODULE, "-j", "tiny", "--noprompt", "--partitions", PARTITION)
ASSETS = ("dagster", "asset", "materialize", "-m", MODULE, "--select", "*", "--partition", PARTITION)
DAEMON = ("dagster._daemon", "run", "-m", MODULE)


@dataclass
class TinyHome:
    """A Dagster home with the pipeline's own settings, which is the storage too."""

    root: Path
    variables: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shutil.copyfile(ROOT / "storage" / "dagster.yaml", self.root / "dagster.yaml")

    def start(self, arguments: tuple[str, ...], **variables: str) -> subprocess.Popen[bytes]:
        """`python -m <arguments>` in a process group of its own; what it prints is added to `output.txt`."""
        own = {"DAGSTER_HOME": str(self.root), "ITOOL_STORAGE": str(self.root), "TINY_NOTES": str(self.root / "notes")}
        with (self.root / "output.txt").open("ab") as output:
            return subprocess.Popen(
                [sys.executable, "-m", *arguments],
                cwd=ROOT,
                env={**os.environ, **own, **self.variables, **variables},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def run(self, arguments: tuple[str, ...], **variables: str) -> None:
        """Start and wait for a good end."""
        code = self.start(arguments, **variables).wait(timeout=300)
        assert code == 0, self.output()

    def output(self) -> str:
        return (self.root / "output.txt").read_text(errors="replace")

    def notes(self) -> list[tuple[str, int]]:
        """Step and process, as they were noted."""
        path = self.root / "notes"
        lines = path.read_text().splitlines() if path.exists() else []
        return [(step, int(pid)) for step, pid in (line.split() for line in lines)]

    def wait_until(self, happened: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not happened():
            assert time.monotonic() < deadline, self.output()
            time.sleep(0.2)

    def instance(self) -> dg.DagsterInstance:
        return dg.DagsterInstance.from_config(str(self.root))
