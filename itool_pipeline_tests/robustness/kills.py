"""SIGKILL at random moments, and the same partition started again until it is done."""

from __future__ import annotations

import importlib.util
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable

from itool_pipeline_tests.drills import DEADLINE_SECONDS, Storage
from itool_pipeline_tests.robustness.outcome import Outcome
from itool_pipeline_tests.robustness.scene import folder, left_behind, scene
from itool_pipeline_tests.small_experiment import RUN


def kills(executor: str, needs: str = "") -> Callable[[Outcome, int, random.Random], None]:
    """A drill with the steps where `executor` computes them. `needs`: a package without which it is skipped."""

    def perform(outcome: Outcome, tries: int, draw: random.Random) -> None:
        if needs and importlib.util.find_spec(needs) is None:
            outcome.skipped = f"{needs} is not installed"
            return
        stages: dict[str, int] = {}
        while outcome.tries < tries:
            _story(outcome, tries, draw, executor, stages)
        outcome.note = ", ".join(f"{count} in {stage}" for stage, count in sorted(stages.items()))

    return perform


def _story(outcome: Outcome, tries: int, draw: random.Random, executor: str, stages: dict[str, int]) -> None:
    """One storage, from the first start to the end of the experiment; each kill in it is a try."""
    s = scene()
    with folder() as root:
        storage = s.storage(root / "storage", ITOOL_EXECUTOR=executor)
        killed = 0
        while True:
            done = outcome.tries + killed >= tries
            code = _started(storage, None if done else draw.uniform(0.02, 0.6) * s.seconds, executor)
            if code != -signal.SIGKILL:
                break
            killed += 1
            stage = _stage(storage)
            stages[stage] = stages.get(stage, 0) + 1
        problems = [f"ended with {code}: {storage.output()[-500:]}"] if code else s.differences(storage)
        for _ in range(max(killed - 1, 0)):
            outcome.tried([])
        outcome.tried(problems)
        print(f"  {outcome.tries} of {tries} kills, {len(outcome.failures)} failures", flush=True)
        if problems:
            kept = root.rename(root.with_name(f"{root.name}.kept"))
            print(f"  the storage is kept in {kept}", flush=True)


def _started(storage: Storage, seconds: float | None, executor: str) -> int:
    """The run's exit code, -9 if it was killed after so many seconds."""
    process = storage.start(RUN)
    try:
        return process.wait(DEADLINE_SECONDS if seconds is None else seconds)
    except subprocess.TimeoutExpired:
        # In one process nothing else is there; else the processes of steps are left to find it out.
        (os.killpg if executor == "in_process" else os.kill)(process.pid, signal.SIGKILL)
        return process.wait()


def _stage(storage: Storage) -> str:
    """What was being made when the process was killed: the asset of the newest unfinished folder."""
    artifacts = storage.root / "artifacts"
    open_now = sorted(artifacts.glob("**/*.partial"), key=lambda path: path.stat().st_mtime)
    return open_now[-1].parent.relative_to(artifacts).as_posix() if open_now else "between steps"


def before_its_lock(outcome: Outcome, tries: int, draw: random.Random) -> None:
    """Kill within the first seconds, where a run has no lock yet; the next run must end it and go on."""
    s = scene()
    for _ in range(tries):
        with folder() as root:
            storage = s.storage(root / "storage")
            process, deadline = storage.start(RUN), time.monotonic() + DEADLINE_SECONDS
            history = root / "storage" / "history"
            while not history.exists() and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.01)
            time.sleep(draw.uniform(0, 4))
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            done = storage.run(*RUN)
            outcome.tried([done.text[-500:]] if done.code else left_behind(storage))
