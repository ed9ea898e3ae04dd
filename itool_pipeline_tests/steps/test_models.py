"""One model is kept from step to step, and given back before training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from itool_pipeline.engines import model as engine_model
from itool_pipeline.steps import models, training
from itool_pipeline.steps.workspace import Workspace
from itool_pipeline_tests.steps.by_hand import workspace


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The adapter of every model that is loaded; adapters are named by their checkpoint."""
    loaded: list[str] = []

    def load(directory: Path, compute: Any, *, adapter: Path | None = None, **_: Any) -> object:
        loaded.append(str(adapter))
        return object()

    monkeypatch.setattr(engine_model, "load_model", load)
    monkeypatch.setattr(models, "base_dir", lambda ws: Path("base"))
    monkeypatch.setattr(models, "adapter_dir", lambda ws, checkpoint: Path(checkpoint))
    models.release_model()
    return loaded


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    return workspace(tmp_path)


def test_the_same_checkpoint_is_loaded_once_and_another_takes_its_place(ws: Workspace, loads: list[str]) -> None:
    first = models.inference_model(ws, "warmup/hard")
    assert models.inference_model(ws, "warmup/hard") is first
    assert models.inference_model(ws, "iteration_1/policy") is not first
    assert models.inference_model(ws, "warmup/hard") is not first
    assert loads == ["warmup/hard", "iteration_1/policy", "warmup/hard"]


def test_training_starts_with_the_memory_given_back(
    ws: Workspace, loads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    models.inference_model(ws, "warmup/hard")
    kept: list[int] = []

    def load(*_: Any, **__: Any) -> Any:
        kept.append(len(models._kept))
        raise InterruptedError

    monkeypatch.setattr(training, "base_dir", lambda ws: Path("base"))
    monkeypatch.setattr(engine_model, "load_model", load)
    with pytest.raises(InterruptedError):
        training._trainable(ws, "warmup/hard", "none")
    assert kept == [0]
