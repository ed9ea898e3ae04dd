"""One process or several: the passes of a step are shared out, and what is summed is the same.

Those with real processes go through the launcher that a step uses, and gloo.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file

from itool_pipeline.config import ComputeConfig, DpoLoss, LoraConfig, OptimizerConfig
from itool_pipeline.core.types import Progress, no_progress
from itool_pipeline.training import launching
from itool_pipeline.training.data_file import write_preference_data, write_sft_data
from itool_pipeline.training.items import PreferenceRow, SftItem, TokenPair, TrainingData
from itool_pipeline.training.job import (
    FreshAdapter,
    PreferenceObjective,
    SftObjective,
    TrainingError,
    TrainingJob,
    TrainingResult,
)
from itool_pipeline.training.launching import run_launched, train_in_processes
from itool_pipeline.training.processes import TrainingProcesses
from itool_pipeline.training.runner import run_training_job

ROWS = tuple(
    PreferenceRow(f"tree{i}", (5, 6 + i), (TokenPair((7,), (8 + i,), (9, 10)), TokenPair((), (7, 3), (4,))))
    for i in range(5)
)
ITEMS = tuple(SftItem(f"item{i}", tuple(range(5, 8 + i)), (100 + i, 200 + i, 2)) for i in range(7))
OPTIMIZER = OptimizerConfig(learning_rate=0.005, epochs=4, batch_size=3, micro_batch_tokens=12, checkpoint_every=1)
NOTHING = LoraConfig(targets=("nothing",))
ROOT = Path(__file__).parents[2]
DEADLINE_SECONDS = 300.0


def among(count: int, rank: int, *, sharded: bool = False) -> TrainingProcesses:
    """A process as it would be among others."""
    processes = TrainingProcesses(sharded=sharded)
    accelerator: Any = SimpleNamespace(process_index=rank, num_processes=count)
    processes._accelerator = accelerator
    return processes


@pytest.mark.parametrize(("rank", "own"), [(0, [0, 3]), (1, [1, 4]), (2, [2])])
def test_passes_are_dealt_out_in_turn(rank: int, own: list[int]) -> None:
    assert among(3, rank).deal([0, 1, 2, 3, 4]) == own


@pytest.mark.parametrize("passes", range(1, 8))
def test_with_sharded_weights_all_compute_equally_many_passes(passes: int) -> None:
    every = list(range(passes))
    sharded = [among(3, rank, sharded=True) for rank in range(3)]
    assert len({len(p.deal(every)) + len(p.idle(every)) for p in sharded}) == 1
    assert sorted(n for p in sharded for n in p.deal(every)) == every, "what is idle counts for nothing"
    assert all(not among(3, rank).idle(every) for rank in range(3)), "whole weights are nobody's business"


@pytest.mark.parametrize(("count", "tokens", "most"), [(1, 10, 64), (2, 10, 5), (3, 10, 4), (2, 1000, 64)])
def test_a_step_has_a_pass_for_every_process(count: int, tokens: int, most: int) -> None:
    assert among(count, 0).budget(64, tokens) == most


def test_one_process_changes_nothing() -> None:
    processes = TrainingProcesses()
    assert processes.rank == 0
    assert processes.deal([3, 1, 2]) == [3, 1, 2]
    figures = [0.1 + 0.2, 1e300, 7.0]
    assert processes.sum_figures(figures) == figures
    parameter = torch.nn.Parameter(torch.ones(2))
    gradient = parameter.grad = torch.tensor([1.0, 2.0])
    processes.sum_gradients([parameter, torch.nn.Parameter(torch.ones(1))])
    assert parameter.grad is gradient


def test_fewer_gpus_than_processes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(TrainingError, match=r"3 processes .* take a GPU each, and torch sees 2: lower compute\.proc"):
        TrainingProcesses()


@dataclass
class Trainings:
    """Trainings of the tiny model, each in a folder of its own; those that are asked for again are kept."""

    root: Path
    model: Path
    results: dict[tuple[str, int, str], TrainingResult] = field(default_factory=dict)

    def job(self, kind: str, processes: int, sharding: Any = "none", *, name: str = "") -> TrainingJob:
        """A job, and its file."""
        folder = self.root / (name or f"{kind}_{processes}_{sharding}")
        folder.mkdir(exist_ok=True)
        objective: Any = SftObjective()
        if kind == "sft":
            write_sft_data(folder / "data.parquet", TrainingData(ITEMS[:5], ITEMS[5:]))
        else:
            write_preference_data(folder / "data.parquet", TrainingData(ROWS[:4], ROWS[4:]))
            objective = PreferenceObjective(loss=DpoLoss(type="dpo", beta=0.5, reference="base"))
        job = TrainingJob(
            base_model=self.model,
            compute=ComputeConfig(device="cpu", dtype="float32", processes=processes, sharding=sharding),
            adapter=FreshAdapter(lora=LoraConfig(rank=4, dropout=0.0)),
            data=folder / "data.parquet",
            objective=objective,
            optimizer=OPTIMIZER,
            parts=folder / "parts",
            out=folder / "adapter",
            candidates=folder / "candidates",
            result=folder / "result.json",
        )
        file_of(job).write_text(job.model_dump_json())
        return job

    def trained(self, kind: str, processes: int, sharding: str = "none") -> TrainingResult:
        """The result of an undisturbed training."""
        key = (kind, processes, sharding)
        if key not in self.results:
            job = self.job(kind, processes, sharding)
            self.results[key] = launched(job) if processes > 1 else run_training_job(job)
        return self.results[key]


def file_of(job: TrainingJob) -> Path:
    return job.out.parent / "job.json"


def launched(job: TrainingJob, progress: Progress = no_progress) -> TrainingResult:
    return train_in_processes(file_of(job), progress, print)


def adapter(job: TrainingJob) -> dict[str, bytes]:
    """File → content."""
    return {path.name: path.read_bytes() for path in job.out.iterdir()}


@pytest.fixture(scope="module")
def trainings(tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path) -> Trainings:
    return Trainings(tmp_path_factory.mktemp("trainings"), tiny_model_dir)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "steps", "sharding"), [("sft", 8, "none"), ("preference", 12, "none"), ("preference", 12, "fsdp")]
)
def test_two_processes_train_what_one_does(trainings: Trainings, kind: str, steps: int, sharding: str) -> None:
    """Steps of an even and of an odd number of passes, in which one process has fewer than the other."""
    alone, shared = trainings.trained(kind, 1), trainings.trained(kind, 2, sharding)
    assert len(shared.losses) == shared.steps == alone.steps == steps
    assert shared.losses == pytest.approx(alone.losses, abs=1e-5)
    assert shared.losses[-1] < shared.losses[0] - 0.1
    assert shared.best_step == alone.best_step
    for ours, theirs in zip(alone.validation, shared.validation, strict=True):
        assert theirs.loss == pytest.approx(ours.loss, abs=1e-5)
        assert theirs.metrics == pytest.approx(ours.metrics, abs=1e-4)
    one, two = trainings.job(kind, 1), trainings.job(kind, 2, sharding)
    assert adapter(one).keys() == adapter(two).keys()
    assert adapter(one)["adapter_config.json"] == adapter(two)["adapter_config.json"]
    want, got = (load_file(job.out / "adapter_model.safetensors") for job in (one, two))
    assert want.keys() == got.keys()
    for name in want:
        torch.testing.assert_close(got[name], want[name], rtol=1e-2, atol=1e-4)
    assert [p.name for p in sorted(one.candidates.iterdir())] == [p.name for p in sorted(two.candidates.iterdir())]


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

    def stop(done: int, total: int) -> None:
        running.extend(ranks().values())
        raise KeyboardInterrupt

    job = trainings.job("preference", 2, name="stopped")
    with pytest.raises(KeyboardInterrupt):
        launched(job, stop)
    assert len(running) == 2
    assert not any(map(is_alive, running))
    assert psutil.Process().children(recursive=True) == []


@pytest.mark.slow
def test_the_processes_end_when_the_one_that_started_them_is_killed(trainings: Trainings) -> None:
    job = trainings.job("preference", 2, name="orphaned")
    command = [sys.executable, "-m", "itool_pipeline.training", str(file_of(job))]
    starter = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(lambda: starter.poll() is not None or any(job.parts.glob("step_*")))
    running = psutil.Process(starter.pid).children(recursive=True)
    starter.kill()
    assert starter.wait() == -signal.SIGKILL, "it ended before it could be killed"
    assert len(running) == 3, "torch's launcher and two processes"
    wait_until(lambda: not any(map(is_alive, running)))
    assert not job.result.exists()


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
    assert told == [{"progress": [step, 8]} for step in range(1, 9)]
    file_of(job).write_text(job.model_copy(update={"seed": 1}).model_dump_json())
    assert run_launched(file_of(job)) == 1
    (told,) = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert told["refused"].endswith("parts holds checkpoints of another training: remove it")
