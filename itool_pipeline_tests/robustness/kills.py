"""SIGKILL at random moments, and the same partition started again until it is done."""

from __future__ import annotations

import importlib.util
import os
import random
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from itool_pipeline_tests.drills import DEADLINE_SECONDS, ROOT, Storage
from itool_pipeline_tests.ray_nodes import Cluster, path_to_dagster
from itool_pipeline_tests.robustness.lost import Lost, Watch, lost
from itool_pipeline_tests.robustness.outcome import Outcome
from itool_pipeline_tests.robustness.scene import CHECKPOINT_EVERY, folder, left_behind, scene
from itool_pipeline_tests.small_experiment import RUN

LOOK_SECONDS = 0.05
MOST_KEPT = 8
"""How many things (artifacts, shards, checkpoints, batches of answers) a run may keep at most before it is killed, of
some 40 that an undisturbed one keeps: moments by the clock alone would all be in the start on a busy machine."""
MOST_SECONDS = 2.0
"""And how long it may go on then."""


@dataclass
class _Tally:
    """Over all kills of a drill: how many met which stage, and the most that one of them lost."""

    stages: Counter[str] = field(default_factory=Counter)
    losses: list[Lost] = field(default_factory=list)

    def note(self) -> str:
        steps, shards = (max((getattr(one, unit) for one in self.losses), default=0) for unit in ("steps", "shards"))
        processes = max((one.processes for one in self.losses), default=0)
        of_each = f" of {processes} processes" if processes > 1 else ""
        met = ", ".join(f"{count} in {stage}" for stage, count in sorted(self.stages.items()))
        return f"the most that one lost: optimizer steps {steps}, shards {shards}{of_each}; {met}"


def kills(executor: str, *needs: str) -> Callable[[Outcome, int, random.Random], None]:
    """A drill with the steps where `executor` computes them. `needs`: packages without which it is skipped."""

    def perform(outcome: Outcome, tries: int, draw: random.Random) -> None:
        if absent := [name for name in needs if importlib.util.find_spec(name) is None]:
            outcome.skipped = f"{' and '.join(absent)} not installed"
            return
        tally = _Tally()
        while outcome.tries < tries:
            _story(outcome, tries, draw, executor, tally)
            outcome.note = tally.note()

    return perform


def _story(outcome: Outcome, tries: int, draw: random.Random, executor: str, tally: _Tally) -> None:
    """One storage, from the first start to the end of the experiment; each kill in it is a try."""
    s = scene()
    with folder() as root, _place_for(executor, s.storage(root / "storage", ITOOL_EXECUTOR=executor)) as storage:
        watch, losses = Watch(storage.root), list[Lost]()
        while True:
            done = outcome.tries + len(losses) >= tries
            moment = None if done else (watch.kept + draw.randint(0, MOST_KEPT), draw.uniform(0, MOST_SECONDS))
            code = _started(storage, moment, executor, watch, losses)
            if code != -signal.SIGKILL:
                break
            tally.stages[_stage(storage)] += 1
        tally.losses += losses
        problems = [f"ended with {code}: {storage.output()[-500:]}"] if code else s.differences(storage)
        problems += [f"{name} was kept and made again" for name in sorted(watch.again)]
        for loss in losses[:-1]:
            outcome.tried(loss.problems(CHECKPOINT_EVERY))
        outcome.tried([*(losses[-1].problems(CHECKPOINT_EVERY) if losses else []), *problems])
        print(f"  {outcome.tries} of {tries} kills, {len(outcome.failures)} failures", flush=True)
        if problems:
            left = root.rename(root.with_name(f"{root.name}.kept"))
            print(f"  the storage is kept in {left}", flush=True)


@contextmanager
def _place_for(executor: str, storage: Storage) -> Iterator[Storage]:
    """The storage, with a cluster that works for it where the executor needs one."""
    if executor != "ray":
        yield storage
        return
    seen = {"PYTHONPATH": str(ROOT), "PATH": path_to_dagster(), "DAGSTER_HOME": str(storage.root)}
    # Sockets' paths may not be long.
    short = tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True)
    with short, Cluster(Path(short.name), **seen) as cluster:
        storage.variables["RAY_ADDRESS"] = cluster.at
        yield storage


def _started(
    storage: Storage, moment: tuple[int, float] | None, executor: str, watch: Watch, losses: list[Lost]
) -> int:
    """The run's exit code, -9 if it was killed; `losses` then has one more.

    moment  how many things are kept, and how many seconds later it is killed; None: it is left alone
    """
    process, deadline = storage.start(RUN), time.monotonic() + DEADLINE_SECONDS
    kept, seconds = moment or (0, DEADLINE_SECONDS)
    while process.poll() is None and watch.kept < kept and time.monotonic() < deadline:
        watch.look()
        time.sleep(LOOK_SECONDS)
    deadline = min(deadline, time.monotonic() + seconds)
    while process.poll() is None and time.monotonic() < deadline:
        watch.look()
        time.sleep(LOOK_SECONDS)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGSTOP)
        watch.look()
        loss = lost(storage.root)
        # In one process nothing else is there; else the processes of steps are left to find it out.
        (os.killpg if executor == "in_process" else os.kill)(process.pid, signal.SIGKILL)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGCONT)
        if moment is None:
            raise subprocess.TimeoutExpired(process.args, DEADLINE_SECONDS)
        if process.wait() == -signal.SIGKILL:  # and had not ended just then
            losses.append(loss)
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
