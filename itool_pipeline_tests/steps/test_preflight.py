"""What is said before a run is begun."""

from __future__ import annotations

from pathlib import Path

import pytest

from itool_pipeline.engines import vllm_maker
from itool_pipeline.steps.preflight import obstacles
from itool_pipeline.store.paths import StoragePaths
from itool_pipeline.tracking import trackers
from itool_pipeline.training import trl_extra
from itool_pipeline_tests.steps.by_hand import experiment


def test_an_engine_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm_maker, "find_spec", lambda name: None)
    e, paths = experiment(iterations=1), StoragePaths(tmp_path)
    on_vllm = e.model_copy(update={"compute": e.compute.model_copy(update={"engine": "vllm"})})
    said = [words for words in obstacles(on_vllm, paths) if "vLLM is not installed" in words]
    assert len(said) == 1
    assert not [words for words in obstacles(e, paths) if "vLLM" in words]


def test_a_trainer_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trl_extra, "find_spec", lambda name: None)
    by_grpo, paths = {"preference": {"loss": {"type": "grpo"}}}, StoragePaths(tmp_path)
    said = [words for words in obstacles(experiment(iterations=1, **by_grpo), paths) if "TRL is not installed" in words]
    assert len(said) == 1
    for e in (experiment(iterations=1), experiment(iterations=0, **by_grpo)):
        assert not [words for words in obstacles(e, paths) if "TRL" in words]


def test_a_tracker_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    tracked = experiment(tracking={"type": "wandb"})
    said = [words for words in obstacles(tracked, StoragePaths(tmp_path)) if "tracking.type is wandb" in words]
    assert len(said) == 1
    assert not [words for words in obstacles(experiment(), StoragePaths(tmp_path)) if "tracking" in words]
