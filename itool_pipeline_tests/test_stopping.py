"""Ctrl-C and SIGTERM end a process that does not end by itself, and a run that waits."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
import yaml

from itool_pipeline.defs.run_loop import mend_run_loop
from itool_pipeline.experiment_files import load_experiment
from itool_pipeline.files.ticket_lock import ticket_lock
from itool_pipeline.steps.plan import plan

ROOT = Path(__file__).parents[1]
BOTH = (signal.SIGINT, signal.SIGTERM)

STUBBORN = """
import sys, threading, time
from itool_pipeline.stopping import stop_when_asked
sys.argv = ["itool_pipeline", "run", "demo", "--set", "a b"]
stop_when_asked(float(sys.stdin.readline()))
words = ["begun"]
while True:
    try:
        print(*words, flush=True)
        words = []
        time.sleep(60)
    except KeyboardInterrupt:
        words = ["not yet"]
"""


@pytest.fixture(autouse=True)
def ctrl_c_is_heard() -> Iterator[None]:
    """A shell tells what it starts in the background to ignore Ctrl-C, and whatever that starts in turn."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def stubborn(grace: float) -> subprocess.Popen[str]:
    """A process that goes on whatever it is asked."""
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        [sys.executable, "-c", STUBBORN], cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{grace}\n")
    process.stdin.flush()
    assert process.stdout.readline() == "begun\n"
    return process


@pytest.mark.parametrize("number", BOTH)
def test_after_a_grace_it_ends_with_how_to_go_on(number: signal.Signals) -> None:
    process = stubborn(0.5)
    process.send_signal(number)
    out, said = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert out == "not yet\n", "it could have ended in order before"
    assert said.endswith("what is finished is kept. To go on: python -m itool_pipeline run demo --set 'a b'\n")


def test_a_second_signal_ends_it_at_once() -> None:
    process = stubborn(3600)
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    assert process.stderr.readline() == "\n"
    assert process.stderr.readline() == "Stopping; at the latest in 3600 s. Once more ends it at once.\n"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130


@pytest.mark.parametrize("number", BOTH)
def test_a_run_that_waits_for_a_lock_can_be_stopped(
    number: signal.Signals, tmp_path: Path, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, storage = tmp_path / "data.jsonl", tmp_path / "storage"
    data.write_text(
        json.dumps({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "!"}]})
    )
    config = {
        "model": {"type": "hub", "name": str(tiny_model_dir)},
        "data": {"type": "jsonl", "path": str(data)},
        "evaluation": {"bfcl": None},
    }
    (tmp_path / "waits.yaml").write_text(yaml.safe_dump(config))
    storage.mkdir()
    shutil.copyfile(ROOT / "storage" / "dagster.yaml", storage / "dagster.yaml")
    own = {"ITOOL_EXPERIMENTS": str(tmp_path), "ITOOL_STORAGE": str(storage), "DAGSTER_HOME": str(storage)}
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    fingerprint = plan(load_experiment("waits"))["base_model"].fingerprint
    log = tmp_path / "log.txt"
    lock = storage / "artifacts" / "base_model" / f"{fingerprint}.tickets"
    with ticket_lock(lock, "it", print), log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "itool_pipeline", "run", "waits"], cwd=ROOT, stdout=output, stderr=output
        )
        try:
            deadline = time.monotonic() + 240
            while "Waiting for base_model" not in log.read_text():
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.1)
            process.send_signal(number)
            assert process.wait(timeout=60) == 128 + number
        finally:
            process.kill()
    said = log.read_text()
    assert f"in use by process {os.getpid()}" in said
    assert "What is finished is kept: start it again to go on." in said.strip().splitlines()[-1]


def test_a_run_that_waits_for_a_place_in_a_pool_can_be_stopped(tmp_path: Path) -> None:
    """The signal comes while nothing of the run's own is at work."""
    mend_run_loop()

    @dg.op
    def first() -> None:
        subprocess.Popen([sys.executable, "-c", f"import os, time; time.sleep(1); os.kill({os.getpid()}, 2)"])

    @dg.op(pool="gpu", ins={"before": dg.In(dg.Nothing)})
    def second() -> None:
        pytest.fail("there was no place for it")

    @dg.job
    def waits() -> None:
        second(first())

    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        instance.event_log_storage.set_concurrency_slots("gpu", 1)
        assert instance.event_log_storage.claim_concurrency_slot("gpu", "other run", "step").is_claimed
        before = time.process_time()
        result = waits.execute_in_process(instance=instance, raise_on_error=False)
        assert time.process_time() - before < 3
        assert not result.success
        pending = instance.event_log_storage.get_concurrency_info("gpu").pending_steps
        assert {step.run_id for step in pending} == {"other run"}
