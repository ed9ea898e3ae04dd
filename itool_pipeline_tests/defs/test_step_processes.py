"""A step's process ends, too, when the run that started it is gone and its events are more than a pipe holds."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from multiprocessing.queues import Queue
from pathlib import Path

import psutil
import pytest

from itool_pipeline.defs.step_processes import outlive_the_run

EVENT = "e" * 4096
EVENTS = 64
"""Four times what the pipe holds."""


def step(events: Queue[str], mends: bool, note: str) -> None:
    if mends:
        outlive_the_run()
    Path(note).write_text(str(os.getpid()))
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    for _ in range(EVENTS):
        events.put(EVENT)


def run(method: str, mends: str, note: str) -> None:
    """What a run does: start a step, and be killed."""
    context = multiprocessing.get_context(method)
    events = context.Queue()
    context.Process(target=step, args=(events, mends == "mends", note)).start()
    while not Path(note).exists() or not Path(note).read_text():
        time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGKILL)


def ends(method: str, mends: str, note: Path) -> bool:
    """Whether the step's process ends after its run is killed."""
    program = f"from {__name__} import run; run({method!r}, {mends!r}, {str(note)!r})"
    done = subprocess.run([sys.executable, "-c", program], check=False)
    assert done.returncode == -signal.SIGKILL
    try:
        process = psutil.Process(int(note.read_text()))
        process.wait(60 if mends == "mends" else 5)
    except psutil.NoSuchProcess:
        return True
    except psutil.TimeoutExpired:
        process.kill()
        return False
    return True


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_it_ends_when_its_run_is_gone(method: str, tmp_path: Path) -> None:
    assert ends(method, "mends", tmp_path / "note")


def test_it_would_wait_for_ever_otherwise(tmp_path: Path) -> None:
    assert not ends("spawn", "does not", tmp_path / "note")


def test_where_no_run_started_the_process_nothing_is_begun() -> None:
    threads = threading.enumerate()
    outlive_the_run.cache_clear()
    outlive_the_run()
    assert threading.enumerate() == threads


def test_every_event_reaches_a_run_that_lives(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    events: Queue[str] = context.Queue()
    process = context.Process(target=speak, args=(events,))
    process.start()
    assert [events.get(timeout=60) for _ in range(EVENTS)] == [f"{number}{EVENT}" for number in range(EVENTS)]
    process.join(60)
    assert process.exitcode == 0


def speak(events: Queue[str]) -> None:
    outlive_the_run()
    for number in range(EVENTS):
        events.put(f"{number}{EVENT}")
