"""The database held by another process, damaged, of an older version, or gone between two steps."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import duckdb

from itool_pipeline_tests.drills import Storage
from itool_pipeline_tests.robustness.disks import last_words_problems
from itool_pipeline_tests.robustness.outcome import Outcome
from itool_pipeline_tests.robustness.scene import Scene, folder, scene
from itool_pipeline_tests.small_experiment import ASSET, RUN

HELD_SECONDS = 60
HOLDER = (
    "import duckdb, sys, time; held = duckdb.connect(sys.argv[1]); print('held', flush=True); "
    "time.sleep(float(sys.argv[2]))"
)


def held(outcome: Outcome, tries: int, draw: random.Random) -> None:
    """Another process has it open for a minute: the run waits, says for whom, and ends well."""
    s = scene()
    for _ in range(tries):
        with folder() as root:
            storage = s.storage(root / "storage")
            command = [sys.executable, "-c", HOLDER, str(storage.root / "itool.duckdb"), str(HELD_SECONDS)]
            with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
                assert holder.stdout is not None
                holder.stdout.readline()
                done = storage.run(*RUN)
            problems = [done.text[-600:]] if done.code else s.differences(storage)
            if f"(PID {holder.pid})" not in done.text and f"process {holder.pid}" not in done.text:
                problems.append("nobody was told who holds it")
            outcome.tried(problems)


def between_steps(change: Callable[[Path, random.Random], None], *, refused: bool = False) -> Callable[..., None]:
    """A drill: half of the steps, then `change`, then the rest; rows are complete in the end.

    refused  the run must end in words first, until the file is moved away
    """

    def perform(outcome: Outcome, tries: int, draw: random.Random) -> None:
        s = scene()
        for _ in range(tries):
            with folder() as root:
                outcome.tried(_one(s, s.storage(root / "storage"), draw))

    def _one(s: Scene, storage: Storage, draw: random.Random) -> list[str]:
        half = storage.run(*ASSET, "--select", "base_model,examples,splits,warmup/easy")
        if half.code:
            return [half.text[-600:]]
        database, problems = storage.root / "itool.duckdb", []
        change(database, draw)
        done = storage.run(*RUN)
        if refused and done.code:
            problems = last_words_problems(done.text)
            database.unlink()
            done = storage.run(*RUN)
        return [*problems, *([done.text[-600:]] if done.code else s.differences(storage))]

    return perform


def corrupt(database: Path, draw: random.Random) -> None:
    """Four blocks of a page's size, anywhere."""
    content = bytearray(database.read_bytes())
    for _ in range(4):
        place = draw.randrange(max(1, len(content) - 4096))
        content[place : place + 4096] = draw.randbytes(4096)
    database.write_bytes(content)


def make_older(database: Path, draw: random.Random) -> None:
    """The tables of a version before."""
    with duckdb.connect(str(database)) as connection:
        connection.execute("UPDATE meta SET value = '1' WHERE key = 'schema'")


def delete(database: Path, draw: random.Random) -> None:
    """As a person does who wants it filled again."""
    database.unlink()
