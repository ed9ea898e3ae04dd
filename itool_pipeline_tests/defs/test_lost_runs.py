"""Runs that were killed give back their place in the pool; runs that live keep it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test

from itool_pipeline.defs.lost_runs import end_lost_runs, sign_of_life
from itool_pipeline.files.locks import is_held

ONE: dict[str, Any] = {"execution": {"config": {"in_process": {}}}}
MANY: dict[str, Any] = {"execution": {"config": {"multiprocess": {}}}}


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    monkeypatch.setenv("ITOOL_STORAGE", str(tmp_path))
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        instance.event_log_storage.set_concurrency_slots("gpu", 1)
        yield instance


def started(instance: dg.DagsterInstance, run_config: Any = ONE) -> dg.DagsterRun:
    """A run that has taken the only place in the pool."""
    run: dg.DagsterRun = create_run_for_test(instance, status=dg.DagsterRunStatus.STARTED, run_config=run_config)
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
    with sign_of_life(run):
        assert is_held(lock_file(tmp_path, run))
        assert untouched(instance, run)
    assert not lock_file(tmp_path, run).exists()


def test_a_run_that_fails_leaves_no_lock_file(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    run = started(instance)
    with pytest.raises(RuntimeError, match="step failed"), sign_of_life(run):
        raise RuntimeError("step failed")
    assert not lock_file(tmp_path, run).exists()


def test_a_run_that_has_not_signed_yet_is_left_alone(instance: dg.DagsterInstance) -> None:
    assert untouched(instance, started(instance))


def test_a_run_in_many_processes_is_left_to_the_daemon(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    run = started(instance, MANY)
    with sign_of_life(run):
        assert not lock_file(tmp_path, run).exists()
    leave_lock_file(tmp_path, run)
    assert untouched(instance, run)


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
