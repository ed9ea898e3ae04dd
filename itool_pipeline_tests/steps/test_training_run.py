"""A step trains in its own process or in several others, and leaves the same."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from itool_pipeline.config import OptimizerConfig
from itool_pipeline.steps import computing, trained, training_run
from itool_pipeline.steps.fine_tuning import fine_tune
from itool_pipeline.steps.models import ADAPTER
from itool_pipeline.store.artifacts import Step
from itool_pipeline.tracking import writers
from itool_pipeline.training.items import SftItem, TrainingData
from itool_pipeline_tests.steps.by_hand import workspace

ITEMS = tuple(SftItem(f"item{i}", tuple(range(5, 8 + i)), (100 + i, 200 + i, 2)) for i in range(6))


def train_from(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps take the model in `base`, without an adapter."""
    monkeypatch.setattr(computing, "base_dir", lambda ws: base)
    monkeypatch.setattr(training_run, "weights_dir", lambda ws: base)
    for at in (trained, training_run):
        monkeypatch.setattr(at, "adapter_dir", lambda ws, checkpoint: None)


@pytest.mark.slow
def test_a_step_leaves_the_same_whether_one_process_trains_or_two(
    tmp_path: Path, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_from(tiny_model_dir, monkeypatch)

    said: dict[int, list[str]] = {1: [], 2: []}

    def made(processes: int) -> tuple[Step, dict[str, Any]]:
        root = tmp_path / str(processes)
        compute = {"device": "cpu", "dtype": "float32", "processes": processes}
        ws = workspace(root, said[processes], compute=compute)
        step = Step("warmup/easy", "f" * 16, root / "target", root / "work", None)
        optimizer, data = OptimizerConfig(learning_rate=0.01, batch_size=2), TrainingData(ITEMS[:5], ITEMS[5:])
        return step, fine_tune(ws, step, "base_model", data, "five examples", optimizer)

    (here, alone), (there, shared) = made(1), made(2)
    devices = [metadata.pop("device") for metadata in (alone, shared)]
    assert devices[1].startswith("2 x ")
    assert not devices[0].startswith("2 x ")
    numbers = {name: value for name, value in alone.items() if isinstance(value, int | float)}
    assert {name: shared[name] for name in numbers} == pytest.approx(numbers, rel=1e-4)
    assert shared.keys() == alone.keys()
    assert any(line.startswith("3 of 3 optimizer steps") for line in said[2]), said[2]
    assert not any("going on" in line for lines in said.values() for line in lines)
    files = [{path.relative_to(step.work) for path in step.work.glob(f"{ADAPTER}/*")} for step in (here, there)]
    assert files[0] == files[1]
    layouts = [
        {
            name: (tensor.shape, tensor.dtype)
            for name, tensor in load_file(next(step.work.glob(f"{ADAPTER}/*.safetensors"))).items()
        }
        for step in (here, there)
    ]
    assert layouts[0] == layouts[1]


def test_the_curve_is_observed_while_it_trains_and_a_kill_tells_no_step_twice(
    tmp_path: Path, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_from(tiny_model_dir, monkeypatch)
    monkeypatch.setattr(writers, "SECONDS_BETWEEN", 0.0)
    optimizer = OptimizerConfig(learning_rate=0.01, epochs=4, batch_size=2, validate_every=3, checkpoint_every=2)
    data = TrainingData(ITEMS[:4], ITEMS[5:])

    class Killed(Exception):
        pass

    def observed(root: Path, killed_at: float) -> list[dict[str, float]]:
        seen: list[dict[str, float]] = []

        def observe(asset: str, figures: Mapping[str, float]) -> None:
            assert asset == "warmup/easy"
            assert not (root / "work" / ADAPTER).exists(), "it is still training"
            seen.append(dict(figures))
            if "train/loss" in figures and figures["step"] == killed_at:
                raise Killed

        ws = replace(workspace(root, compute={"device": "cpu", "dtype": "float32"}), observe=observe)
        step = Step("warmup/easy", "f" * 16, root / "target", root / "work", None)
        with suppress(Killed):
            fine_tune(ws, step, "base_model", data, "four examples", optimizer)
        return seen

    def curve(seen: list[dict[str, float]]) -> list[tuple[float, float]]:
        """What was told of the steps; a validation after a step repeats its figures."""
        return list(dict.fromkeys((figures["step"], figures["train/loss"]) for figures in seen if figures["step"]))

    whole = observed(tmp_path / "whole", math.inf)
    assert [step for step, _ in curve(whole)] == list(range(1, 9))
    steps = [figures["step"] for figures in whole]
    assert [step for step in range(9) if steps.count(step) == (2 if step else 1)] == [0, 2, 3, 4, 6, 8]
    assert curve([*observed(tmp_path / "killed", 5), *observed(tmp_path / "killed", math.inf)]) == curve(whole)
