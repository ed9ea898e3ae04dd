"""One process or several: the passes of a step are shared out, and what is summed is the same."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from itool_pipeline.training.job import TrainingError
from itool_pipeline.training.processes import TrainingProcesses
from itool_pipeline_tests.training.launched import Trainings, adapter


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
    if sharding == "fsdp":
        assert adapter(two) == adapter(trainings.job(kind, 2)), "what is gathered is what was shared out"
    assert [p.name for p in sorted(one.candidates.iterdir())] == [p.name for p in sorted(two.candidates.iterdir())]
