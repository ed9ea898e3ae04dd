"""One process or two: the passes of a step are shared out, and what is summed is the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from itool_pipeline.config import ComputeConfig, DpoLoss, LoraConfig, OptimizerConfig
from itool_pipeline.training.data_file import write_preference_data
from itool_pipeline.training.items import PreferenceRow, TokenPair, TrainingData
from itool_pipeline.training.job import FreshAdapter, PreferenceObjective, TrainingJob
from itool_pipeline.training.processes import TrainingProcesses
from itool_pipeline.training.runner import run_training_job

ROWS = tuple(
    PreferenceRow(f"tree{i}", (5, 6 + i), (TokenPair((7,), (8 + i,), (9, 10)), TokenPair((), (7, 3), (4,))))
    for i in range(5)
)
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("rank", "own"), [(0, [0, 3]), (1, [1, 4]), (2, [2])])
def test_passes_are_dealt_out_in_turn(rank: int, own: list[int]) -> None:
    processes = TrainingProcesses()
    accelerator: Any = SimpleNamespace(process_index=rank, num_processes=3)
    processes._accelerator = accelerator
    assert processes.deal([0, 1, 2, 3, 4]) == own


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


@pytest.mark.slow
def test_two_processes_train_what_one_does(tmp_path: Path, tiny_model_dir: Path) -> None:
    """Through accelerate and gloo: steps of two passes and of one, and a validation set of one, for two processes."""
    write_preference_data(tmp_path / "data.parquet", TrainingData(ROWS[:4], ROWS[4:]))
    one = TrainingJob(
        base_model=tiny_model_dir,
        compute=ComputeConfig(device="cpu", dtype="float32"),
        adapter=FreshAdapter(lora=LoraConfig(rank=4)),
        data=tmp_path / "data.parquet",
        objective=PreferenceObjective(loss=DpoLoss(type="dpo", beta=0.5, reference="base")),
        optimizer=OptimizerConfig(learning_rate=0.01, epochs=2, batch_size=3, micro_batch_tokens=8),
        parts=tmp_path / "one" / "parts",
        out=tmp_path / "one" / "adapter",
        result=tmp_path / "one" / "result.json",
    )
    alone = run_training_job(one)
    where = {"parts": tmp_path / "two" / "parts", "out": tmp_path / "two" / "adapter"}
    two = one.model_copy(update={**where, "result": tmp_path / "two" / "result.json"})
    (tmp_path / "job.json").write_text(two.model_dump_json())
    launcher = ["torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [sys.executable, "-m", *launcher, "-m", "itool_pipeline.training", str(tmp_path / "job.json")],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    shared = json.loads(two.result.read_text())
    assert len(shared["losses"]) == 6
    assert shared["losses"] == pytest.approx(list(alone.losses), abs=1e-5)
    for ours, theirs in zip(alone.validation, shared["validation"], strict=True):
        assert theirs["loss"] == pytest.approx(ours.loss, abs=1e-5)
        assert theirs["metrics"] == pytest.approx(ours.metrics, abs=1e-4)
    want, got = (load_file(job.out / "adapter_model.safetensors") for job in (one, two))
    assert want.keys() == got.keys()
    for name in want:
        torch.testing.assert_close(got[name], want[name], rtol=1e-2, atol=1e-4)
