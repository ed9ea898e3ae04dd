"""Steps in processes of their own write artifacts, and the run's process alone opens the database: real runs of both
kinds of one small experiment, and a run that is killed before it has recorded what a step had made."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import duckdb
import pytest

import itool_pipeline
from itool_pipeline_tests.drills import DEADLINE_SECONDS, FINISHED, Storage, contents
from itool_pipeline_tests.small_experiment import ASSET, RUN, rows, write_experiment

pytestmark = pytest.mark.slow

SPY = """
import os
import duckdb

_connect = duckdb.connect


def note(what):
    with open(os.environ["CONNECTIONS"], "a") as notes:
        notes.write(f"{os.getpid()} {what}\\n")


def connect(database=":memory:", *arguments, **options):
    note(os.path.basename(str(database)))
    return _connect(database, *arguments, **options)


note("began")
os.register_at_fork(after_in_child=lambda: note("began"))
duckdb.connect = connect
"""
"""Python imports a module `sitecustomize` before anything else in every process that is not forked. What opens a
database goes by the one function that it puts itself before, as a test of the sources sees to."""


@dataclass(frozen=True)
class Watched:
    """A run whose processes note what they open: its own process, those of its steps, and process → what it opened."""

    storage: Storage
    run: int
    workers: set[int]
    opened: dict[int, set[str]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, downloads_dir: Path, bfcl_dir: Path, tiny_model_dir: Path) -> Path:
    """Holds the experiment; storages are made in it. `bfcl_dir` sees to it that the wheel is there."""
    root = tmp_path_factory.mktemp("workers")
    write_experiment(root / "experiments", tiny_model_dir)
    return root


def storage(folder: Path, name: str, downloads: Path, **variables: str) -> Storage:
    return Storage(folder / name, downloads, ITOOL_EXPERIMENTS=str(folder / "experiments"), **variables)


@pytest.fixture(scope="module")
def in_process(folder: Path, downloads_dir: Path) -> Storage:
    made = storage(folder, "in_process", downloads_dir)
    done = made.run(*RUN)
    assert done.code == 0, done.text[-3000:]
    return made


@pytest.fixture(scope="module")
def watched(folder: Path, downloads_dir: Path) -> Watched:
    spy, notes = folder / "spy", folder / "connections"
    spy.mkdir()
    (spy / "sitecustomize.py").write_text(SPY)
    made = storage(
        folder,
        "multiprocess",
        downloads_dir,
        ITOOL_EXECUTOR="multiprocess",
        PYTHONPATH=str(spy),
        CONNECTIONS=str(notes),
    )
    process = made.start(RUN)
    assert process.wait(DEADLINE_SECONDS) == 0, made.output()[-3000:]
    with dg.DagsterInstance.from_config(str(made.root)) as instance:
        (run,) = instance.get_runs()
        started = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_WORKER_STARTED)
    events = [entry.get_dagster_event() for entry in started]
    workers = {int(str(event.engine_event_data.metadata["pid"].value)) for event in events}
    opened: dict[int, set[str]] = {}
    for line in notes.read_text().splitlines():
        pid, what = line.split(maxsplit=1)
        opened.setdefault(int(pid), set()).add(what)
    return Watched(made, process.pid, workers, opened)


def test_databases_are_opened_by_the_function_that_is_watched() -> None:
    package = Path(itool_pipeline.__file__).parent
    called = re.findall(r"\bduckdb\.(\w+)\(|from (duckdb)", "".join(path.read_text() for path in package.rglob("*.py")))
    assert set(called) == {("connect", "")}


def test_no_step_opened_the_database(watched: Watched) -> None:
    assert len(watched.workers) > 20
    assert watched.run not in watched.workers
    assert watched.workers <= watched.opened.keys(), "each of them was watched"
    assert {pid for pid, opened in watched.opened.items() if "itool.duckdb" in opened} == {watched.run}


def test_the_report_asked_a_database_of_its_own_and_was_seen_to(watched: Watched) -> None:
    (report,) = (pid for pid, opened in watched.opened.items() if "rows.duckdb" in opened)
    assert report in watched.workers


def test_the_rows_are_those_of_a_run_in_one_process(watched: Watched, in_process: Storage) -> None:
    assert contents(watched.storage.manifests()) == contents(in_process.manifests())
    ours, theirs = rows(watched.storage), rows(in_process)
    assert ours.keys() == theirs.keys()
    for table, found in ours.items():
        assert found == theirs[table], table
    assert {table for table, found in ours.items() if not found} <= {"quarantine", "right_answers", "thoughts"}
    assert len(ours["trees"]) == 4
    assert len(ours["materializations"]) == len(in_process.manifests())


def test_the_rows_say_which_run_made_them(watched: Watched) -> None:
    told = watched.storage.ask("SELECT DISTINCT run_id, made_by_run, reused FROM materializations")
    runs = {manifest.run_id for manifest in watched.storage.manifests().values()}
    assert len(runs) == 1
    (run,) = runs
    assert told == [{"run_id": run, "made_by_run": run, "reused": False}]


def test_a_run_that_is_killed_before_it_has_recorded_a_step_loses_nothing(
    folder: Path, downloads_dir: Path, in_process: Storage
) -> None:
    made = storage(folder, "killed", downloads_dir, ITOOL_EXECUTOR="multiprocess")
    made.take(["base_model"], in_process)
    asked = (*ASSET, "--select", "base_model,examples")
    process = made.start(asked)
    wait_until(lambda: materialized(made) == ["base_model"])
    with held(made.root / "itool.duckdb"):
        wait_until(lambda: any((made.root / "artifacts" / "examples").glob(FINISHED)))
        wait_until(lambda: "Waiting for " in made.output())
        assert process.poll() is None
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert materialized(made) == ["base_model"], "the step has ended, and nothing is recorded"
    done = made.run(*asked)
    assert done.code == 0, done.text[-3000:]
    (examples,) = made.ask("SELECT reused, artifact FROM materializations WHERE asset = 'examples'")
    assert examples == {"reused": True, "artifact": made.manifests()["examples"].fingerprint}
    assert rows(made)["examples"] == [row for row in rows(in_process)["examples"] if row["part"] == "train"]


def materialized(storage: Storage) -> list[str]:
    """The assets that are recorded; none where nobody has opened the database yet, or who has writes to it."""
    try:
        return [row["asset"] for row in storage.ask("SELECT asset FROM materializations ORDER BY asset")]
    except duckdb.Error:
        return []


@contextmanager
def held(database: Path) -> Iterator[None]:
    """Open here, so that nobody else can write."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        try:
            connection = duckdb.connect(str(database))
            break
        except duckdb.IOException:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    with connection:
        yield


def wait_until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)
