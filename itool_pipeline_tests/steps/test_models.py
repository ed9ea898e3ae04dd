"""One model is kept from step to step, and given back before training. What the model can read at once."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import pytest

from itool_pipeline.engines import model as engine_model
from itool_pipeline.engines import model_probe, transformers_engine
from itool_pipeline.engines.factory import release_engines
from itool_pipeline.steps import models, training_run
from itool_pipeline.steps.workspace import StepError, Workspace
from itool_pipeline.store.artifacts import Step
from itool_pipeline.training.job import SftObjective
from itool_pipeline_tests.steps.by_hand import put_model, workspace
from itool_pipeline_tests.steps.without_model import Template


class Model:
    """In place of a loaded model."""

    end_tokens: frozenset[int] = frozenset()


class Engine:
    """In place of the engine: the model that it was made with."""

    def __init__(self, loaded: object, rule: Any, sampling: Any, **_: Any) -> None:
        self.loaded = loaded


def model_at(ws: Workspace, checkpoint: str) -> object:
    engine: Any = models.search_engine(ws, checkpoint)
    return engine.loaded


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The adapter of every model that is loaded; adapters are named by their checkpoint."""
    loaded: list[str] = []

    def load(directory: Path, compute: Any, *, adapter: Path | None = None, **_: Any) -> object:
        loaded.append(str(adapter))
        return Model()

    monkeypatch.setattr(engine_model, "load_model", load)
    monkeypatch.setattr(model_probe, "require_exact_engine", lambda directory: None)
    monkeypatch.setattr(transformers_engine, "TransformersEngine", Engine)
    monkeypatch.setattr(models, "weights_dir", lambda ws: Path("base"))
    monkeypatch.setattr(models, "adapter_dir", lambda ws, checkpoint: Path(checkpoint))
    monkeypatch.setattr(models, "chat", lambda ws: Template())
    release_engines()
    return loaded


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    return workspace(tmp_path)


def test_the_same_checkpoint_is_loaded_once_and_another_takes_its_place(ws: Workspace, loads: list[str]) -> None:
    first = model_at(ws, "warmup/hard")
    assert model_at(ws, "warmup/hard") is first
    assert model_at(ws, "iteration_1/policy") is not first
    assert model_at(ws, "warmup/hard") is not first
    assert loads == ["warmup/hard", "iteration_1/policy", "warmup/hard"]


def test_the_model_is_shared_and_the_engine_is_not(ws: Workspace, loads: list[str]) -> None:
    one, other = (models.search_engine(ws, "warmup/hard") for _ in range(2))
    assert one is not other
    assert len(loads) == 1


def test_training_starts_with_the_memory_given_back(
    ws: Workspace, loads: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = weakref.ref(model_at(ws, "warmup/hard"))
    assert kept() is not None

    def run(*_: Any, **__: Any) -> Any:
        gc.collect()
        assert kept() is None
        raise InterruptedError

    monkeypatch.setattr(training_run, "weights_dir", lambda ws: Path("base"))
    monkeypatch.setattr(training_run, "adapter_dir", lambda ws, checkpoint: None)
    monkeypatch.setattr("itool_pipeline.training.runner.run_training_job", run)
    step = Step("iteration_1/policy", "f" * 16, tmp_path / "target", tmp_path / "work", None)
    with pytest.raises(InterruptedError):
        training_run.train(ws, step, "warmup/hard", SftObjective(), ws.experiment.warmup.optimizer)


@pytest.mark.parametrize(
    ("config", "context"),
    [
        ({"max_position_embeddings": 2048}, 2048),
        ({"text_config": {"max_position_embeddings": 4096}, "vision_config": {"max_position_embeddings": 64}}, 4096),
        ({"max_position_embeddings": None}, None),
        ({"text_config": "none"}, None),
        ({}, None),
    ],
)
def test_the_models_context_is_what_its_config_states(
    ws: Workspace, tmp_path: Path, config: Any, context: int | None
) -> None:
    put_model(ws, tmp_path / "model", config)
    assert models.context_tokens(ws) == context


def test_what_does_not_fit_in_the_context_is_refused(ws: Workspace, tmp_path: Path) -> None:
    put_model(ws, tmp_path / "model", {"max_position_embeddings": 2048})
    models.require_context(ws, 2048, "the search", "search.depth")
    told = r"hand: the search takes 2049 tokens at once, and the model can read 2048 .*; lower search\.depth, or"
    with pytest.raises(StepError, match=told):
        models.require_context(ws, 2049, "the search", "search.depth")


def test_a_model_that_states_no_context_is_not_bounded(ws: Workspace, tmp_path: Path) -> None:
    put_model(ws, tmp_path / "model", {})
    models.require_context(ws, 10**9, "the search", "search.depth")
