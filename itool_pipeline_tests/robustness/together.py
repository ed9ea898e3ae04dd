"""Two runs at once: of the same partition, or of two experiments that share a warm-up."""

from __future__ import annotations

import random

import yaml

from itool_pipeline.store.tables import TABLES
from itool_pipeline_tests.drills import DEADLINE_SECONDS, Storage
from itool_pipeline_tests.robustness.outcome import Outcome
from itool_pipeline_tests.robustness.scene import folder, left_behind, scene
from itool_pipeline_tests.small_experiment import NAME, RUN

OTHER = "other"


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
