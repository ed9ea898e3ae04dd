"""Real runs of the real job in processes of their own, and what they leave in their storage."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb

from itool_pipeline.store.manifest import MANIFEST, Manifest

ROOT = Path(__file__).parents[1]
EXPERIMENTS = Path(__file__).parent / "experiments"
DEADLINE_SECONDS = 1800.0

FINISHED = f"{'?' * 16}/{MANIFEST}"
"""A fingerprint has 16 digits; directories of unfinished artifacts have longer names."""

RUN = ("itool_pipeline", "run", "tiny")
JOB = ("dagster", "job", "execute", "-m", "itool_pipeline.definitions", "-j", "itool")
TAGS = ("--tags", '{"dagster/partition":"tiny"}')
ASSET = ("dagster", "asset", "materialize", "-m", "itool_pipeline.definitions", "--partition", "tiny")

FORCE = '{"resources": {"options": {"config": {"force": true}}}}'

KILLS = {
    "warm-up": "artifacts/warmup/easy/*.partial/parts/step_*",
    "search": "artifacts/iteration_1/trees/*.partial/parts/trees_00000.parquet",
    "preference training": "artifacts/iteration_1/policy/*.partial/parts/step_*",
}
"""What is being done, and the file that shows that it has begun."""

DATA = ("base_model", "examples", "splits")
"""What both stories share, so that it is made once."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Output:
    """How a process ended, and what it printed on both channels."""

    code: int
    text: str


class Storage:
    """A storage root that is a Dagster home too. Its processes have these `variables` beside their own."""

    def __init__(self, root: Path, downloads: Path, **variables: str) -> None:
        root.mkdir()
        self.root, self.variables = root, variables
        (root / "downloads").symlink_to(downloads.resolve())
        shutil.copyfile(ROOT / "storage" / "dagster.yaml", root / "dagster.yaml")

    def start(self, arguments: Sequence[str], log: Path | None = None) -> subprocess.Popen[bytes]:
        """`python -m <arguments>` in a process group of its own; what it prints goes to `log`, or to `output.txt`."""
        own = {"ITOOL_EXPERIMENTS": str(EXPERIMENTS), "ITOOL_STORAGE": str(self.root), "DAGSTER_HOME": str(self.root)}
        # Sums are added up in an order that depends on the number of threads: it is one in every run.
        environment = {**os.environ, **own, "OMP_NUM_THREADS": "1", **self.variables}
        with (log or self.root / "output.txt").open("wb") as output:
            return subprocess.Popen(
                [sys.executable, "-m", *arguments],
                cwd=ROOT,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def output(self) -> str:
        """What the latest process has printed so far."""
        return (self.root / "output.txt").read_text(errors="replace")

    def run(self, *arguments: str) -> Output:
        """Start and wait for the end."""
        process = self.start(arguments)
        return Output(process.wait(DEADLINE_SECONDS), self.output())

    def run_until(self, pattern: str, *arguments: str) -> Output:
        """Start, and kill the whole process group as soon as a file of the storage matches `pattern`."""
        process = self.start(arguments)
        deadline = time.monotonic() + DEADLINE_SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            if any(self.root.glob(pattern)):
                break
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
        return Output(process.wait(), self.output())

    def wait_for(self, asset: str, ended: Callable[[], bool]) -> None:
        """Until the asset is made, or what should make it has ended."""
        while not ended() and not any((self.root / "artifacts" / asset).glob(FINISHED)):
            time.sleep(0.05)

    def take(self, assets: Sequence[str], other: Storage) -> None:
        """The finished artifacts of `assets` of another storage, as hard links: nothing writes to them."""
        for asset in assets:
            (found,) = (path.parent for path in (other.root / "artifacts" / asset).glob(FINISHED))
            shutil.copytree(found, self.root / "artifacts" / asset / found.name, copy_function=os.link)

    def manifests(self) -> dict[str, Manifest]:
        """Asset → manifest of its one finished artifact."""
        paths = sorted((self.root / "artifacts").glob(f"**/{FINISHED}"))
        found = [Manifest.model_validate_json(path.read_bytes()) for path in paths]
        assert len({m.asset for m in found}) == len(found), "an asset was made under two fingerprints"
        return {m.asset: m for m in found}

    def ask(self, sql: str) -> list[Row]:
        """Rows of a query, as dicts."""
        with duckdb.connect(str(self.root / "itool.duckdb"), read_only=True) as connection:
            cursor = connection.execute(sql)
            names = [column[0] for column in cursor.description or ()]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def row_counts(self) -> dict[str, int]:
        """Table → its number of rows."""
        tables = self.ask("SELECT table_name AS name FROM duckdb_tables() WHERE NOT internal")
        return {t["name"]: self.ask(f"SELECT count(*) AS n FROM {t['name']}")[0]["n"] for t in tables}


def contents(manifests: Mapping[str, Manifest]) -> dict[str, dict[str, tuple[int, str | None]]]:
    """Asset → file → size and sha256; with the fingerprint, as a file of its own."""
    return {
        asset: {m.fingerprint: (0, None), **{name: (f.size, f.sha256) for name, f in m.files.items()}}
        for asset, m in manifests.items()
    }


@dataclass
class Story:
    """What happened in one storage: each process's output, and what was there when it had ended."""

    storage: Storage
    outputs: dict[str, Output] = field(default_factory=dict)
    manifests: dict[str, dict[str, Manifest]] = field(default_factory=dict)
    counts: dict[str, dict[str, int]] = field(default_factory=dict)

    def note(self, name: str, output: Output) -> None:
        self.outputs[name] = output
        if output.code == 0:
            self.manifests[name], self.counts[name] = self.storage.manifests(), self.storage.row_counts()


def undisturbed(story: Story) -> None:
    """Run it, run it again, run it by Dagster's own command, then search once more by force."""
    story.note("first", story.storage.run(*RUN))
    story.note("again", story.storage.run(*RUN))
    story.note("job", story.storage.run(*JOB, *TAGS))
    forced = story.storage.run(*ASSET, "--select", "iteration_1/trees", "--config-json", FORCE)
    story.note("forced", forced)


def killed(story: Story) -> None:
    """Run it three times up to a kill, then to the end."""
    for name, pattern in KILLS.items():
        story.note(name, story.storage.run_until(pattern, *RUN))
    story.note("last", story.storage.run(*RUN))
