"""The processes of one training: they end together, with whoever started them, and what they tell is heard."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from itool_pipeline.config import LoraConfig
from itool_pipeline.core.types import Progress, no_progress
from itool_pipeline.training import launching, runner
from itool_pipeline.training.job import FreshAdapter, TrainingError
from itool_pipeline.training.launching import LOG, run_launched
from itool_pipeline.training.runner import run_training_job
from itool_pipeline_tests.training.launched import Trainings, adapter, file_of, launched

NOTHING = LoraConfig(targets=("nothing",))
ROOT = Path(__file__).parents[2]
DEADLINE_SECONDS = 300.0


def ranks() -> dict[int, psutil.Process]:
    """Rank → process, of those that this one has started."""
    found = {}
    for process in psutil.Process().children(recursive=True):
        try:
            if "--launched" in process.cmdline() and "torch.distributed.run" not in process.cmdline():
                found[int(process.environ()["RANK"])] = process
        except psutil.NoSuchProcess:
            pass
    return found


def kill_process_1(after: int) -> Progress:
    """A progress callback that kills one process when so many steps are done."""

    def progress(done: int, total: int) -> None:
        if done == after:
            assert set(ranks()) == {0, 1}
            ranks()[1].kill()

    return progress


@pytest.mark.slow
def test_a_killed_process_ends_all_and_the_job_goes_on(trainings: Trainings) -> None:
    undisturbed = trainings.trained("preference", 2)
    job = trainings.job("preference", 2, name="killed")
    killed = r"training in 2 processes has ended: process 1 was killed by SIGKILL, .* goes on from its last checkpoint"
    with pytest.raises(TrainingError, match=killed):
        launched(job, kill_process_1(after=4))
    assert ranks() == {}
    assert not job.result.exists()
    (checkpoint,) = job.parts.glob("step_*")
    done: list[int] = []
    assert launched(job, lambda step, total: done.append(step)) == undisturbed
    assert done[0] == int(checkpoint.name.removeprefix("step_")) + 1 > 4
    assert adapter(job) == adapter(trainings.job("preference", 2))


@pytest.mark.slow
def test_nothing_is_left_running_when_the_step_is_stopped(trainings: Trainings) -> None:
    """Ctrl-C, as it comes to whoever waits for the processes."""
    running: list[psutil.Process] = []
    # A resource tracker, which Python starts once and keeps, may be among them.
    before = psutil.Process().children(recursive=True)

    def stop(done: int, total: int) -> None:
        running.extend(ranks().values())
        raise KeyboardInterrupt

    job = trainings.job("preference", 2, name="stopped")
    with pytest.raises(KeyboardInterrupt):
        launched(job, stop)
    assert len(running) == 2
    # A process that ends closes its files a little before it is a zombie.
    wait_until(lambda: not any(map(is_alive, running)))
    assert not job.result.exists(), "they went on to their end"
    assert set(psutil.Process().children(recursive=True)) <= set(before)
    # One process may go on where two have ended.
    assert any(job.parts.glob("step_*"))
    losses = run_training_job(job).losses
    assert losses == pytest.approx(trainings.trained("preference", 1).losses, abs=1e-5)


@pytest.mark.slow
def test_the_processes_end_when_the_one_that_started_them_is_killed(trainings: Trainings) -> None:
    job = trainings.job("preference", 2, name="orphaned")
    command = [sys.executable, "-m", "itool_pipeline.training", str(file_of(job))]
    starter = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(lambda: starter.poll() is not None or len(ranks()) == 2)
    running = psutil.Process(starter.pid).children(recursive=True)
    starter.kill()
    assert starter.wait() == -signal.SIGKILL, "it ended before it could be killed"
    assert len(running) == 3, "torch's launcher and two processes"
    wait_until(lambda: not any(map(is_alive, running)))
    assert not any(job.parts.glob("step_*")), "they had begun to load the model, and went on to train it"


def is_alive(process: psutil.Process) -> bool:
    return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)


def wait_until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow
def test_what_a_process_refuses_is_what_the_step_says(trainings: Trainings) -> None:
    """Every process refuses; one sentence is left, and it is the command's last too."""
    job = trainings.job("sft", 2, name="refused").model_copy(update={"adapter": FreshAdapter(lora=NOTHING)})
    file_of(job).write_text(job.model_dump_json())
    with pytest.raises(TrainingError, match=r"^lora\.targets \('nothing',\) match no layer of the model"):
        launched(job)


def test_a_launched_process_tells_progress_and_refusals(
    trainings: Trainings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launching, "_end_with_starter", lambda: None)
    job = trainings.job("sft", 1, name="told")
    assert run_launched(file_of(job)) == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line for line in told if "progress" in line] == [{"progress": [step, 8]} for step in range(1, 9)]
    assert [line["metrics"][:2] for line in told if "metrics" in line and line["metrics"][0] == "train"] == [
        ["train", step] for step in range(1, 9)
    ]
    heard: list[tuple[Any, ...]] = []
    hearing = launching._Heard(no_progress, print, lambda *told: heard.append(told))
    for line in told:
        hearing.take(json.dumps(line))
    result = json.loads(job.result.read_text())
    assert [values["loss"] for kind, _, values in heard if kind == "train"] == result["losses"]
    assert [(step, values["loss"]) for kind, step, values in heard if kind == "validation"] == [
        (validation["step"], validation["loss"]) for validation in result["validation"]
    ]
    file_of(job).write_text(job.model_copy(update={"seed": 1}).model_dump_json())
    assert run_launched(file_of(job)) == 1
    (told,) = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert told["refused"].endswith("parts holds checkpoints of another training: remove it")


def test_a_mistake_is_told_with_its_trace_in_the_log(
    trainings: Trainings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def mistaken(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(launching, "_end_with_starter", lambda: None)
    monkeypatch.setattr(runner, "run_training_job", mistaken)
    job = trainings.job("sft", 2, name="mistaken")
    assert run_launched(file_of(job)) == 1
    said = capsys.readouterr()
    assert json.loads(said.out) == {"failed": "RuntimeError: a bug"}
    assert said.err.startswith("Traceback")
    job.parts.mkdir()
    (job.parts / LOG).write_text(said.err)
    words = launching._words(job, "RuntimeError: a bug")
    assert words.startswith("The training in 2 processes has ended: RuntimeError: a bug. ")
    assert words.endswith(f"{job.parts / LOG} has what they printed.")
