"""Two runs at once: of the same partition, of two experiments that share a warm-up, or beside `dagster dev`."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time

import dagster as dg
import yaml

from itool_pipeline.store.tables import TABLES
from itool_pipeline_tests.defs.served import WITH_DAEMON, ui
from itool_pipeline_tests.defs.tiny_runs import TinyHome
from itool_pipeline_tests.drills import DEADLINE_SECONDS, Storage
from itool_pipeline_tests.robustness.outcome import Outcome
from itool_pipeline_tests.robustness.scene import folder, left_behind, scene
from itool_pipeline_tests.small_experiment import NAME, RUN

OTHER = "other"
DEFINITIONS = "itool_pipeline.definitions"
TAGS = ("--tags", f'{{"dagster/partition": "{NAME}"}}')
LAUNCH = ("dagster", "job", "launch", "-m", DEFINITIONS, "-j", "itool", *TAGS)
FOUND_SECONDS = 60.0
"""How long a killed run may count as going on at most."""


def same_partition(outcome: Outcome, tries: int, draw: random.Random) -> None:
    """Each artifact is made by one of them, and all is as in one run."""
    s = scene()
    for _ in range(tries):
        with folder() as root:
            storage = s.storage(root / "storage")
            problems = _both(storage, RUN, RUN)
            outcome.tried(problems or s.differences(storage))


def shared_warmup(outcome: Outcome, tries: int, draw: random.Random) -> None:
    """What both need is made once, and no row stands twice."""
    s = scene()
    other = s.root / "experiments" / f"{OTHER}.yaml"
    other.write_text(yaml.safe_dump({"extends": NAME, "pairs": {"min_q_difference": 0.02}}))
    for _ in range(tries):
        with folder() as root:
            storage = s.storage(root / "storage")
            problems = _both(storage, RUN, ("itool_pipeline", "run", OTHER))
            outcome.tried(problems or [*_doubled(storage), *_made_twice(storage), *left_behind(storage)])
    other.unlink()


def beside_dev(outcome: Outcome, tries: int, draw: random.Random) -> None:
    """A run of the command line beside `dagster dev`, killed at a random moment or done before; another run, launched
    as the UI does it, waits for it in the daemon's queue, and goes on with its work.
    """
    s, killed, longest = scene(), 0, 0.0
    for _ in range(tries):
        with folder() as root:
            storage = s.storage(root / "storage")
            home = TinyHome(storage.root, {**storage.variables, "OMP_NUM_THREADS": "1"})
            with ui(home, DEFINITIONS, WITH_DAEMON), home.instance() as instance:
                run = storage.start(RUN, storage.root / "run.txt")
                launched = storage.start(LAUNCH, storage.root / "launch.txt").wait(DEADLINE_SECONDS)
                code = _killed_after(run, draw.uniform(0, s.seconds))
                seconds = _all_finished(instance, in_queue=False)
                _all_finished(instance, in_queue=True)
                statuses = [one.status for one in instance.get_runs() if _in_queue(one)]
            problems = [] if launched == 0 and code in (0, -signal.SIGKILL) else [f"ended with {code}, {launched}"]
            problems += [] if statuses == [dg.DagsterRunStatus.SUCCESS] else [f"what waited is {statuses}"]
            problems += [f"a killed run was found after {seconds:.0f} s"] if seconds > FOUND_SECONDS else []
            outcome.tried(problems or s.differences(storage))
            killed, longest = killed + (code == -signal.SIGKILL), max(longest, seconds)
            outcome.note = f"{killed} killed, and found after {longest:.0f} s at most"


def _killed_after(run: subprocess.Popen[bytes], seconds: float) -> int:
    """Its exit code: it is killed unless it has ended before."""
    try:
        return run.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(run.pid, signal.SIGKILL)
        return run.wait()


def _all_finished(instance: dg.DagsterInstance, in_queue: bool) -> float:
    """How many seconds it takes until no run counts as going on, of those that were launched into the queue or not."""
    start = time.monotonic()
    while any(not run.is_finished for run in instance.get_runs() if _in_queue(run) == in_queue):
        if time.monotonic() - start > DEADLINE_SECONDS:
            break
        time.sleep(0.5)
    return time.monotonic() - start


def _in_queue(run: dg.DagsterRun) -> bool:
    return run.remote_job_origin is not None


def _both(storage: Storage, *commands: tuple[str, ...]) -> list[str]:
    logs = [storage.root / f"output_{number}.txt" for number in range(len(commands))]
    processes = [storage.start(command, log) for command, log in zip(commands, logs, strict=True)]
    codes = [process.wait(DEADLINE_SECONDS) for process in processes]
    return [log.read_text(errors="replace")[-600:] for code, log in zip(codes, logs, strict=True) if code]


def _doubled(storage: Storage) -> list[str]:
    found = []
    for table in TABLES.values():
        (row,) = storage.ask(
            f"SELECT (SELECT count(*) FROM {table.name}) AS a, "
            f"(SELECT count(*) FROM (SELECT DISTINCT * FROM {table.name})) AS b"
        )
        found += [f"table {table.name} has rows twice"] if row["a"] != row["b"] else []
    return found


def _made_twice(storage: Storage) -> list[str]:
    rows = storage.ask("SELECT artifact, count(*) FILTER (NOT reused) AS made FROM materializations GROUP BY artifact")
    return [f"{row['artifact']} was made {row['made']} times" for row in rows if row["made"] > 1]
