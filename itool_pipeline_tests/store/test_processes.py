"""Several processes at one storage: kills, locks and races. Order is made by messages, never by waiting times."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from itool_pipeline.files import ticket_lock
from itool_pipeline.store.artifacts import ArtifactStore, Step, reuse_or_make
from itool_pipeline.store.database import Database, DatabaseLocked
from itool_pipeline.store.manifest import Origin
from itool_pipeline_tests.store.by_hand import A, ask, load, names_in, rows

REPOSITORY = Path(__file__).resolve().parents[2]
PRELUDE = """
import os, signal, sys, time
from pathlib import Path
import duckdb
from itool_pipeline.store import artifacts
from itool_pipeline.store.artifacts import ArtifactStore, reuse_or_make
from itool_pipeline.store.database import Database
from itool_pipeline.store.manifest import Origin
root = Path(sys.argv[1])
store = ArtifactStore(root)
def ready():
    print("ready", flush=True)
    sys.stdin.read()
"""


@contextmanager
def process(root: Path, code: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", PRELUDE + code, str(root)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, cwd=REPOSITORY, **pipes) as running:  # type: ignore[call-overload]
        try:
            yield running
        finally:
            running.kill()


def wait_until_ready(running: subprocess.Popen[str]) -> None:
    assert running.stdout is not None
    assert running.stdout.readline() == "ready\n"


def releasing(running: subprocess.Popen[str], said: list[str]) -> Callable[[str], None]:
    """A `say` that lets the holder go as soon as it is told that something waits."""

    def say(text: str) -> None:
        said.append(text)
        running.kill()
        running.wait()

    return say


def never(step: Step) -> dict[str, Any]:
    raise AssertionError("made again")


def test_a_kill_keeps_the_parts_and_is_not_taken_for_whole(tmp_path: Path) -> None:
    code = f"""
def make(step):
    step.parts.write_text("shard_0", "zero")
    step.parts.write_text("shard_1", "one")
    def half(path):
        path.write_text("ha")
        ready()
    step.parts.write("shard_2", half)
reuse_or_make(store, "trees", "{A}", make, origin=Origin())
"""
    with process(tmp_path, code) as running:
        wait_until_ready(running)
        running.send_signal(signal.SIGKILL)
        running.wait()
    store = ArtifactStore(tmp_path)
    assert store.find("trees", A) is None

    def go_on(step: Step) -> dict[str, Any]:
        assert step.parts.path("shard_1").read_text() == "one"
        return {"kept": names_in(step.parts.directory)}

    artifact, reused = reuse_or_make(store, "trees", A, go_on, origin=Origin())
    assert not reused
    assert artifact.manifest.metadata == {"kept": ["shard_0", "shard_1"]}
    assert sorted(p.name for p in artifact.path.iterdir()) == ["manifest.json"]


def test_a_kill_between_manifest_and_rename_loses_nothing(tmp_path: Path) -> None:
    code = f"""
artifacts.move_into_place = lambda source, target: os.kill(os.getpid(), signal.SIGKILL)
def make(step):
    (step.work / "trees.txt").write_text("three")
    return {{"trees": 3}}
reuse_or_make(store, "trees", "{A}", make, origin=Origin())
"""
    with process(tmp_path, code) as running:
        assert running.wait() == -signal.SIGKILL
    store = ArtifactStore(tmp_path)
    assert (tmp_path / "trees" / f"{A}.partial" / "manifest.json").exists()
    assert store.find("trees", A) is None
    artifact, reused = reuse_or_make(store, "trees", A, never, origin=Origin())
    assert reused
    assert artifact.file("trees.txt").read_text() == "three"
    assert store.find("trees", A) == artifact


def test_of_two_processes_one_makes_and_the_other_waits_and_reuses(tmp_path: Path) -> None:
    code = f"""
def make(step):
    with (root / "makers").open("a") as file:
        file.write("x")
    while not (root / "waits").exists():
        time.sleep(0.01)
    return {{}}
_, reused = reuse_or_make(store, "trees", "{A}", make, origin=Origin(), say=lambda text: (root / "waits").touch())
print(reused)
"""
    with process(tmp_path, code) as one, process(tmp_path, code) as other:
        answers = {one.communicate(timeout=120)[0], other.communicate(timeout=120)[0]}
    assert answers == {"True\n", "False\n"}
    assert (tmp_path / "makers").read_text() == "x"


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    with process(tmp_path, f'with store.open("trees", "{A}"): ready()') as running:
        wait_until_ready(running)
        said: list[str] = []
        _, reused = reuse_or_make(
            ArtifactStore(tmp_path), "trees", A, lambda step: {}, origin=Origin(), say=releasing(running, said)
        )
    assert not reused
    assert f"process {running.pid}" in said[0]


COMES_BACK = f"""
from itool_pipeline.files import process_identity, ticket_lock
process_identity.place = lambda: "far away"
ticket_lock.TIMING = ticket_lock.Timing(poll=0.01, beat=float(os.environ["BEAT"]), patience=300.0)
def make(step):
    step.parts.write_text("shard_0", "zero")
    ready()
    step.parts.write_text("shard_0", "zero")
    step.parts.write_text("shard_1", "one")
    (step.work / "trees.txt").write_text("three")
    return {{}}
try:
    reuse_or_make(store, "trees", "{A}", make, origin=Origin())
except ticket_lock.LockLost as error:
    print(error)
"""


@pytest.mark.parametrize("beat", [0.05, 3600.0], ids=["stopped by its heart", "stopped when it would finish"])
@pytest.mark.parametrize("when", ["while the other works", "after the other has finished"])
def test_a_machine_that_was_suspended_and_comes_back_damages_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, beat: float, when: str
) -> None:
    monkeypatch.setenv("BEAT", str(beat))
    monkeypatch.setattr(ticket_lock, "TIMING", ticket_lock.Timing(poll=0.01, beat=0.05, patience=1.0))
    store = ArtifactStore(tmp_path)
    said: list[str] = []

    def come_back() -> None:
        running.send_signal(signal.SIGCONT)
        assert running.communicate(timeout=120)[0].startswith(f"trees {A}: this process gave no sign of life")

    def take_over(step: Step) -> dict[str, Any]:
        assert step.parts.path("shard_0").read_text() == "zero"
        if when == "while the other works":
            come_back()
        (step.work / "trees.txt").write_text("three")
        return {}

    with process(tmp_path, COMES_BACK) as running:
        wait_until_ready(running)
        running.send_signal(signal.SIGSTOP)
        artifact, reused = reuse_or_make(store, "trees", A, take_over, origin=Origin(), say=said.append)
        assert not reused
        if when == "after the other has finished":
            come_back()
    assert "is passed over" in said[-1]
    assert store.find("trees", A) == artifact
    assert store.verify(artifact, deep=True) == []
    assert names_in(artifact.path) == ["manifest.json", "trees.txt"]


HOLD_DATABASE = 'connection = duckdb.connect(str(root / "i.duckdb")); ready()'


@pytest.mark.parametrize("reading", [False, True])
def test_a_held_database_is_waited_for(tmp_path: Path, reading: bool) -> None:
    said: list[str] = []
    content = rows(Database(tmp_path / "i.duckdb"), "buffer", {"example_id": "e1"})
    with process(tmp_path, HOLD_DATABASE) as running:
        wait_until_ready(running)
        database = Database(tmp_path / "i.duckdb", say=releasing(running, said))
        if reading:
            assert ask(database, "SELECT count(*) FROM buffer") == [(0,)]
        else:
            assert load(database, "buffer", A, content) == 1
    assert len(said) == 1
    assert f"process {running.pid}" in said[0]


def test_a_database_that_stays_held_is_reported(tmp_path: Path) -> None:
    database = Database(tmp_path / "i.duckdb", wait_seconds=0.2, say=lambda text: None)
    with database.transaction():
        pass
    with process(tmp_path, HOLD_DATABASE) as running:
        wait_until_ready(running)
        with pytest.raises(DatabaseLocked, match=rf"process {running.pid} \(.*Close it there"), database.transaction():
            raise AssertionError("never reached")


def test_two_readers_do_not_wait(tmp_path: Path) -> None:
    database = Database(tmp_path / "i.duckdb", wait_seconds=0.0)
    with database.transaction():
        pass
    with process(tmp_path, 'with Database(root / "i.duckdb").read(): ready()') as running:
        wait_until_ready(running)
        assert ask(database, "SELECT count(*) FROM pairs") == [(0,)]


def test_a_kill_inside_a_transaction_changes_nothing(tmp_path: Path) -> None:
    database = Database(tmp_path / "i.duckdb")
    load(database, "buffer", A, rows(database, "buffer", {"example_id": "e1"}))
    code = """
with Database(root / "i.duckdb").transaction() as connection:
    connection.execute("DELETE FROM buffer")
    connection.execute("INSERT INTO buffer (artifact, example_id) SELECT 'x', range FROM range(100000)")
    ready()
"""
    with process(tmp_path, code) as running:
        wait_until_ready(running)
        running.send_signal(signal.SIGKILL)
        running.wait()
    assert ask(database, "SELECT artifact, example_id FROM buffer") == [(A, "e1")]
