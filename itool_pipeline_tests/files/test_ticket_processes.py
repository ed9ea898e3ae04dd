"""Processes that stand in one line, some as if on other machines: then only their hearts tell that they live."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from itool_pipeline.files.ticket_lock import Timing, ticket_lock

ROOT = Path(__file__).resolve().parents[2]
PATIENT = Timing(poll=0.01, beat=0.05, patience=300.0)
SHORT = Timing(poll=0.01, beat=0.05, patience=1.0)

PRELUDE = """
import os, sys, time
from pathlib import Path
from itool_pipeline.files import process_identity
from itool_pipeline.files.ticket_lock import LockLost, Timing, ticket_lock
folder, machine = Path(sys.argv[1]), sys.argv[2]
if machine:
    process_identity.place = lambda: machine
def lock(say=lambda line: None, shared=False):
    return ticket_lock(folder, "it", say, shared=shared, timing=Timing(poll=0.01, beat=0.05, patience=300.0))
def ready(word="ready"):
    print(word, flush=True)
    return sys.stdin.readline()
"""


@contextmanager
def process(folder: Path, code: str, machine: str = "") -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", PRELUDE + code, str(folder), machine]
    with subprocess.Popen(command, text=True, cwd=ROOT, stdin=-1, stdout=-1) as running:
        try:
            yield running
        finally:
            running.kill()


def said(running: subprocess.Popen[str]) -> str:
    assert running.stdout is not None
    return running.stdout.readline().strip()


def go_on(running: subprocess.Popen[str]) -> None:
    assert running.stdin is not None
    running.stdin.write("\n")
    running.stdin.flush()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "it.tickets"


HOLD = "with lock(): ready()"
SHARE = "with lock(shared=True): ready()"

CROWD = """
for round in range(8):
    with lock():
        # Fails when another is inside.
        os.close(os.open(folder.parent / "inside", os.O_CREAT | os.O_EXCL))
        time.sleep(0.002)
        (folder.parent / "inside").unlink()
print("done")
"""


@pytest.mark.parametrize("machines", [[""], ["a", "b"]], ids=["one machine", "two machines"])
def test_never_two_at_once(folder: Path, machines: list[str]) -> None:
    with ExitStack() as stack:
        crowd = [stack.enter_context(process(folder, CROWD, machine)) for machine in machines * (6 // len(machines))]
        assert [one.communicate(timeout=300)[0] for one in crowd] == ["done\n"] * 6
    numbers = sorted(path.name for path in folder.iterdir())
    assert numbers == [f"{number:08d}" for number in range(1, 49)], "no number twice, none left out"


def test_those_that_share_hold_it_together_and_one_alone_waits_for_all(folder: Path) -> None:
    with process(folder, SHARE, "a") as one, process(folder, SHARE, "b") as other:
        assert said(one) == said(other) == "ready"
        code = 'with lock(lambda line: ready("waits")): print("alone", flush=True)'
        with process(folder, code, "c") as alone:
            assert said(alone) == "waits"
            # Who could share comes after who was there before.
            with process(folder, 'with lock(lambda line: ready("waits"), shared=True): print("later")') as later:
                assert said(later) == "waits"
                for running in (alone, later, one):
                    go_on(running)
                one.wait(60)
                assert alone.poll() is None
                go_on(other)
                assert said(alone) == "alone"
                assert said(later) == "later"


def test_first_come_first_served(folder: Path) -> None:
    code = 'with lock(lambda line: print("waits", flush=True)): (folder.parent / "order").open("a").write(machine)'
    with ExitStack() as stack:
        holder = stack.enter_context(process(folder, HOLD))
        assert said(holder) == "ready"
        waiting = []
        for machine in "abcde":
            waiting.append(stack.enter_context(process(folder, code, machine)))
            assert said(waiting[-1]) == "waits"
        go_on(holder)
        assert [one.wait(60) for one in waiting] == [0] * 5
    assert (folder.parent / "order").read_text() == "abcde"


def test_a_killed_holder_of_this_machine_is_passed_over_at_once(folder: Path) -> None:
    with process(folder, HOLD) as holder:
        assert said(holder) == "ready"
        heard = []

        def kill(line: str) -> None:
            heard.append(line)
            holder.kill()

        with ticket_lock(folder, "it", kill, timing=PATIENT):  # not yet waited for by its parent: a zombie
            assert f"process {holder.pid} on " in heard[0]


def test_a_holder_of_this_machine_that_stands_still_is_waited_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with process(folder, HOLD) as holder:
        assert said(holder) == "ready"
        holder.send_signal(signal.SIGSTOP)
        now = [0.0]

        def pass_time(seconds: float) -> None:
            now[0] += seconds
            if now[0] > 10 * SHORT.patience:
                holder.send_signal(signal.SIGCONT)
                go_on(holder)
                os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)

        monkeypatch.setattr("itool_pipeline.files.ticket_lock.time.monotonic", lambda: now[0])
        monkeypatch.setattr("itool_pipeline.files.ticket_lock.time.sleep", pass_time)
        with ticket_lock(folder, "it", lambda line: None, timing=SHORT):
            assert holder.wait() == 0


def test_a_killed_holder_of_another_machine_is_passed_over_after_the_patience(folder: Path) -> None:
    with process(folder, HOLD, "far away") as holder:
        assert said(holder) == "ready"
        heard = []

        def kill(line: str) -> None:
            heard.append(line)
            holder.kill()

        with ticket_lock(folder, "it", kill, timing=SHORT):
            assert heard[-1].endswith("gave no sign of life for 1 s and is passed over.")


COMES_BACK = """
try:
    with lock():
        ready()
        while True:
            time.sleep(0.01)
except LockLost as error:
    print(error)
"""


def test_a_holder_that_was_suspended_is_told_and_does_not_go_on(folder: Path) -> None:
    with process(folder, COMES_BACK, "far away") as holder:
        assert said(holder) == "ready"
        holder.send_signal(signal.SIGSTOP)
        with ticket_lock(folder, "it", lambda line: None, timing=SHORT):
            holder.send_signal(signal.SIGCONT)
            go_on(holder)
            assert holder.communicate(timeout=60)[0].startswith("it: this process gave no sign of life in ")
    with ticket_lock(folder, "it", pytest.fail):
        pass


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_that_is_forked_off_holds_nothing_and_gives_nothing_back(folder: Path) -> None:
    code = """
with lock() as held:
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        held.require()
        ready("parent holds")
    else:
        try:
            held.require()
        except LockLost:
            print("child holds nothing", flush=True)
"""
    with process(folder, code) as parent:
        assert said(parent) == "child holds nothing"
        assert said(parent) == "parent holds"
        with ticket_lock(folder, "it", lambda line: go_on(parent), timing=PATIENT):
            assert parent.wait(60) == 0
