"""Runs that were killed give back their place in the pool; runs that live keep it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import cast

import dagster as dg
import psutil
import pytest
from dagster._core.test_utils import create_run_for_test

from itool_pipeline.defs import lost_runs as lost
from itool_pipeline.defs.lost_runs import PROCESS_TAG, end_lost_runs, lost_runs, sign_of_life
from itool_pipeline.files.locks import is_held
from itool_pipeline.files.process_identity import ProcessIdentity
from itool_pipeline_tests.defs.tiny_runs import DAEMON, JOB, LAUNCH, TinyHome


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    monkeypatch.setenv("ITOOL_STORAGE", str(tmp_path))
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        instance.event_log_storage.set_concurrency_slots("gpu", 1)
        yield instance


def started(instance: dg.DagsterInstance) -> dg.DagsterRun:
    """A run that has taken the only place in the pool."""
    run: dg.DagsterRun = create_run_for_test(instance, status=dg.DagsterRunStatus.STARTED)
    assert instance.event_log_storage.claim_concurrency_slot("gpu", run.run_id, "step").is_claimed
    return run


def lock_file(tmp_path: Path, run: dg.DagsterRun) -> Path:
    return tmp_path / "runs" / f"{run.run_id}.lock"


def leave_lock_file(tmp_path: Path, run: dg.DagsterRun) -> None:
    """As a killed process does: the file is there and nobody holds it."""
    lock_file(tmp_path, run).parent.mkdir(exist_ok=True)
    lock_file(tmp_path, run).touch()


def holders(instance: dg.DagsterInstance) -> set[str]:
    return {slot.run_id for slot in instance.event_log_storage.get_concurrency_info("gpu").claimed_slots}


def test_a_killed_run_is_ended_and_its_place_is_free(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    run, said = started(instance), list[str]()
    leave_lock_file(tmp_path, run)
    end_lost_runs(instance, said.append)
    assert said == [f"run {run.run_id} was killed: marked as failed; what it finished is kept"]
    assert instance.get_run_by_id(run.run_id).status == dg.DagsterRunStatus.FAILURE  # type: ignore[union-attr]
    assert holders(instance) == set()
    assert instance.event_log_storage.claim_concurrency_slot("gpu", "next", "step").is_claimed
    end_lost_runs(instance, said.append)
    assert len(said) == 1
    assert list((tmp_path / "runs").iterdir()) == []


def untouched(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    end_lost_runs(instance, lambda line: pytest.fail(line))
    found = instance.get_run_by_id(run.run_id)
    return found is not None and found.status == dg.DagsterRunStatus.STARTED and holders(instance) == {run.run_id}


def test_a_living_run_is_left_alone(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    run = started(instance)
    with sign_of_life(instance, run.run_id):
        assert is_held(lock_file(tmp_path, run))
        assert untouched(instance, run)
    assert not lock_file(tmp_path, run).exists()


def test_a_run_that_fails_leaves_no_lock_file(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    run = started(instance)
    with pytest.raises(RuntimeError, match="step failed"), sign_of_life(instance, run.run_id):
        raise RuntimeError("step failed")
    assert not lock_file(tmp_path, run).exists()


def working_run_of(instance: dg.DagsterInstance, process: ProcessIdentity, signed_by: str = "") -> dg.DagsterRun:
    """A run that a process has signed and that has begun a step; it has no lock file."""
    run = told_start(instance, process.pid, 0)
    instance.add_run_tags(run.run_id, {PROCESS_TAG: json.dumps([signed_by or run.run_id, asdict(process)])})
    tell_step(instance, run)
    return run


def test_a_run_that_could_not_say_how_it_ended_is_ended_at_once(instance: dg.DagsterInstance) -> None:
    """As on a full disk: its lock file is away, its process is gone."""
    gone = replace(ProcessIdentity.own(), pid=gone_process())
    assert status_after_a_look(instance, working_run_of(instance, gone)) == dg.DagsterRunStatus.FAILURE


def test_a_run_whose_process_may_live_is_left_alone(instance: dg.DagsterInstance) -> None:
    """It is about to say how it ended, or works where nobody here can see it, or was only retried by another run."""
    own = ProcessIdentity.own()
    gone = replace(own, pid=gone_process())
    for run in (
        working_run_of(instance, own),
        working_run_of(instance, replace(gone, place="another machine")),
        working_run_of(instance, gone, signed_by="the run that this one tries again"),
    ):
        assert status_after_a_look(instance, run) == dg.DagsterRunStatus.STARTED


def test_a_run_that_has_made_its_lock_file_and_does_not_hold_it_yet_is_left_alone(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    own, gone = (
        working_run_of(instance, replace(ProcessIdentity.own(), pid=pid)) for pid in (os.getpid(), gone_process())
    )
    for run in (own, gone):
        leave_lock_file(tmp_path, run)
    assert status_after_a_look(instance, own) == dg.DagsterRunStatus.STARTED
    assert status_after_a_look(instance, gone) == dg.DagsterRunStatus.FAILURE


@pytest.mark.parametrize("tag", ["a text", "null", "[]", '["{run}"]', '["{run}", {{"number": 1}}]', '["{run}", 7]'])
def test_a_tag_of_another_form_is_no_obstacle(instance: dg.DagsterInstance, tmp_path: Path, tag: str) -> None:
    """Of another version, or a person's: the run is then told by its lock alone, and so are all others."""
    unknown, lost_one = started(instance), create_run_for_test(instance, status=dg.DagsterRunStatus.STARTED)
    instance.add_run_tags(unknown.run_id, {PROCESS_TAG: tag.format(run=unknown.run_id)})
    leave_lock_file(tmp_path, lost_one)
    assert end_lost_runs(instance, lambda _: None) == [lost_one.run_id]
    leave_lock_file(tmp_path, unknown)
    assert end_lost_runs(instance, lambda _: None) == [unknown.run_id]


def test_a_run_that_ends_while_it_is_looked_at_keeps_its_end(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = working_run_of(instance, replace(ProcessIdentity.own(), pid=gone_process()))
    listed = instance.get_run_records(filters=dg.RunsFilter(run_ids=[run.run_id]))
    monkeypatch.setattr(dg.DagsterInstance, "get_run_records", lambda *_, **__: listed)
    instance.report_dagster_event(dg.DagsterEvent(dg.DagsterEventType.RUN_SUCCESS.value, run.job_name), run.run_id)
    assert status_after_a_look(instance, run) == dg.DagsterRunStatus.SUCCESS


def test_the_process_of_a_run_signs_it(instance: dg.DagsterInstance) -> None:
    run = started(instance)
    with sign_of_life(instance, run.run_id):
        signed = instance.get_run_by_id(run.run_id)
    assert signed is not None
    assert json.loads(signed.tags[PROCESS_TAG]) == [run.run_id, asdict(ProcessIdentity.own())]


def test_a_run_that_has_not_signed_yet_is_left_alone(instance: dg.DagsterInstance) -> None:
    assert untouched(instance, started(instance))


def told_start(instance: dg.DagsterInstance, pid: int, ago: float) -> dg.DagsterRun:
    """A run whose process said so many seconds ago that it starts, and nothing since."""
    run: dg.DagsterRun = create_run_for_test(instance)
    event = dg.DagsterEvent(dg.DagsterEventType.RUN_START.value, run.job_name, pid=pid)
    entry = dg.EventLogEntry(  # type: ignore[no-untyped-call]
        error_info=None, level="debug", user_message="", run_id=run.run_id, timestamp=time.time() - ago,
        job_name=run.job_name, dagster_event=event,
    )  # fmt: skip
    instance.handle_new_event(entry)
    return run


def tell_step(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    """It says that a step begins."""
    step = dg.DagsterEvent(dg.DagsterEventType.STEP_START.value, run.job_name, step_handle=None)
    entry = dg.EventLogEntry(  # type: ignore[no-untyped-call]
        error_info=None, level="debug", user_message="", run_id=run.run_id, timestamp=time.time(),
        job_name=run.job_name, step_key="step", dagster_event=step,
    )  # fmt: skip
    instance.handle_new_event(entry)


def status_after_a_look(instance: dg.DagsterInstance, run: dg.DagsterRun) -> dg.DagsterRunStatus:
    end_lost_runs(instance, lambda _: None)
    found = instance.get_run_by_id(run.run_id)
    assert found is not None
    return found.status


def gone_process() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def test_a_run_that_was_killed_before_it_signed_is_ended_after_a_minute(instance: dg.DagsterInstance) -> None:
    pid = gone_process()
    early, late = told_start(instance, pid, 10), told_start(instance, pid, 100)
    assert status_after_a_look(instance, early) == dg.DagsterRunStatus.STARTED
    assert status_after_a_look(instance, late) == dg.DagsterRunStatus.FAILURE


def test_a_run_that_is_slow_to_sign_is_left_alone(instance: dg.DagsterInstance) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        begun = time.time() - psutil.Process(process.pid).create_time()
        lives, younger = told_start(instance, process.pid, 0), told_start(instance, process.pid, begun + 100)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(lost, "SIGNED_WITHIN_SECONDS", 0.0)
            assert status_after_a_look(instance, lives) == dg.DagsterRunStatus.STARTED
        assert status_after_a_look(instance, younger) == dg.DagsterRunStatus.FAILURE, "another process by that number"
        process.communicate(b"\n")


def test_a_run_of_others_without_a_lock_that_works_is_left_alone(instance: dg.DagsterInstance) -> None:
    """Its process may be on another machine."""
    run = told_start(instance, gone_process(), 100)
    tell_step(instance, run)
    assert status_after_a_look(instance, run) == dg.DagsterRunStatus.STARTED


@pytest.mark.slow
def test_a_process_that_is_killed_before_its_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = TinyHome(tmp_path)
    process = home.start(JOB, TINY_KILLED_BEFORE_ITS_LOCK="yes")
    assert process.wait(timeout=300) == -signal.SIGKILL, home.output()
    monkeypatch.setenv("ITOOL_STORAGE", str(tmp_path))
    with home.instance() as instance:
        (run,) = instance.get_runs()
        assert run.status == dg.DagsterRunStatus.STARTED
        assert not lock_file(tmp_path, run).exists()
        assert status_after_a_look(instance, run) == dg.DagsterRunStatus.STARTED, "it may be about to take it"
        monkeypatch.setattr(lost, "SIGNED_WITHIN_SECONDS", 0.0)
        assert status_after_a_look(instance, run) == dg.DagsterRunStatus.FAILURE


def test_where_the_launcher_can_be_asked_nothing_is_judged(
    instance: dg.DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those of Kubernetes and Ray can: their runs are on other machines, of whose locks we need not know."""
    monkeypatch.setattr(type(instance.run_launcher), "supports_check_run_worker_health", True)
    run = started(instance)
    leave_lock_file(tmp_path, run)
    assert untouched(instance, run)


def test_the_sensor_ends_them_and_says_so(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    run, context = started(instance), dg.build_sensor_context(instance=instance)
    assert cast(dg.SkipReason, lost_runs(context)).skip_message == "No run is lost."
    leave_lock_file(tmp_path, run)
    assert cast(dg.SkipReason, lost_runs(context)).skip_message == f"Ended, as their process is gone: {run.run_id}."
    assert instance.get_run_by_id(run.run_id).status == dg.DagsterRunStatus.FAILURE  # type: ignore[union-attr]


def test_the_kernel_frees_the_lock_of_a_killed_process(tmp_path: Path) -> None:
    path = tmp_path / "run.lock"
    assert not is_held(path)
    program = (
        "import sys, time, pathlib\n"
        "from itool_pipeline.files.locks import file_lock\n"
        "with file_lock(pathlib.Path(sys.argv[1]), 'run', print):\n"
        "    print('held', flush=True)\n"
        "    time.sleep(600)\n"
    )
    root = Path(__file__).parents[2]
    with subprocess.Popen([sys.executable, "-c", program, str(path)], cwd=root, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert is_held(path)
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
    assert not is_held(path)


@pytest.fixture
def killed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TinyHome]:
    """The home of a run by the executor that is asked for, whose process was killed in the midst of its last step."""
    home = TinyHome(tmp_path, {"ITOOL_EXECUTOR": request.param})
    process = home.start(JOB, TINY_WAITS="yes")
    try:
        home.wait_until(lambda: len(home.notes()) == 3, 120)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        yield home
    finally:
        # The process of the step outlives it, and is in its group.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def lives(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("killed", "outlived"), [("in_process", False), ("multiprocess", True)], indirect=["killed"])
def test_the_daemon_lets_go_on_what_waits_for_a_killed_run(killed: TinyHome, outlived: bool) -> None:
    (_, _, (_, step)) = killed.notes()
    assert lives(step) == outlived, "a step in a process of its own goes on"
    killed.run(LAUNCH)
    with killed.instance() as instance:
        queued, lost = instance.get_runs()
        assert (queued.status, lost.status) == (dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.STARTED)

        def status(run: dg.DagsterRun) -> dg.DagsterRunStatus:
            found = instance.get_run_by_id(run.run_id)
            assert found is not None
            return found.status

        daemon = killed.start(DAEMON)
        try:
            killed.wait_until(lambda: status(lost) == dg.DagsterRunStatus.FAILURE, 60)
            killed.wait_until(lambda: status(queued) == dg.DagsterRunStatus.SUCCESS, 300)
        finally:
            daemon.terminate()
            daemon.wait(timeout=60)
    assert lives(step) == outlived
    assert [name for name, _ in killed.notes()] == ["first", "second", "third"] * 2
