"""Every key of the search's config reaches the engine or the method: none can be changed without effect."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from itool_pipeline.config import MctsConfig, SamplingConfig
from itool_pipeline.engines import model as engine_model
from itool_pipeline.engines import model_probe, transformers_engine
from itool_pipeline.steps import models, trees
from itool_pipeline.steps.replay_buffer import replay_buffer
from itool_pipeline.steps.workspace import Workspace
from itool_pipeline_tests.steps.by_hand import workspace
from itool_pipeline_tests.steps.without_model import install, prepared, warm_up

ENGINE: dict[str, Any] = {
    "temperature": 0.7,
    "top_k": 7,
    "top_p": 0.9,
    "terminators": ",;",
    "max_fragment_tokens": 9,
}
"""Keys that the engine is made with, and another value than the default for each."""

METHOD = {
    "depth",
    "width",
    "iterations",
    "simulation",
    "leaves",
    "virtual_loss",
    "c",
    "gamma",
    "samples",
    "guide",
    "expand",
    "responses",
} | {
    "max_response_tokens",
    "prior",
    "outcome",
    "self_evaluation",
}
"""Keys that core reads in the section itself, which it is handed as it is; the tests of core hold each of them."""


class Recorder:
    """In place of the engine: what it was made with."""

    def __init__(self, loaded: Any, rule: Any, sampling: Any, **rest: Any) -> None:
        self.rule, self.sampling = rule, sampling


@pytest.fixture(autouse=True)
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    class Template:
        end_token = 2

    class Model:
        end_tokens: frozenset[int] = frozenset()

    monkeypatch.setattr(engine_model, "load_model", lambda *_, **__: Model())
    monkeypatch.setattr(model_probe, "require_exact_engine", lambda directory: None)
    monkeypatch.setattr(models, "chat", lambda ws: Template())
    monkeypatch.setattr(models, "weights_dir", lambda ws: Path("base"))
    monkeypatch.setattr(transformers_engine, "TransformersEngine", Recorder)


def engine_of(ws: Workspace) -> tuple[Any, Any]:
    engine: Any = models.search_engine(ws, "base_model")
    return engine.rule, engine.sampling


def test_every_key_is_somebodys() -> None:
    keys = {*MctsConfig.model_fields, *SamplingConfig.model_fields}
    assert {*ENGINE, *METHOD, "type", "shard_size"} == keys


@pytest.mark.parametrize("search", ["mcts", "sampling"])
@pytest.mark.parametrize("key", ENGINE)
def test_a_key_of_the_search_reaches_the_engine(tmp_path: Path, key: str, search: str) -> None:
    before = engine_of(workspace(tmp_path, search={"type": search}))
    after = engine_of(workspace(tmp_path, search={"type": search, key: ENGINE[key]}))
    assert before != after
    assert [getattr(part, key) for part in after if hasattr(part, key)] == [ENGINE[key]]


def test_the_section_is_handed_over_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    called: list[tuple[str, int, Any]] = []

    def search(name: str) -> Any:
        def run(problems: Any, policy: Any, judge: Any, settings: Any, **rest: Any) -> list[Any]:
            called.append((name, len(problems), settings))
            return []

        return run

    monkeypatch.setattr(trees, "each_tree", search("mcts"))
    monkeypatch.setattr(trees, "each_sampled_tree", search("sampling"))
    for method in ("mcts", "sampling"):
        ws = prepared(tmp_path, search={"type": method, "shard_size": 5}, split={"validation_fraction": 0.0})
        warm_up(ws)
        replay_buffer(ws, 1)
        for index in trees.plan_shards(ws, 1):
            trees.search_shards(ws, 1, [index])
        assert called[-4:] == [(method, size, ws.experiment.search) for size in (5, 5, 5, 1)]
