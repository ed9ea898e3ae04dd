"""Every key of the search's config reaches what the code works with: none can be changed without effect."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from itool_pipeline.config import OutcomeConfig, SearchConfig, SelfEvaluationConfig
from itool_pipeline.engines import transformers_engine
from itool_pipeline.steps import models, trees
from itool_pipeline.steps.replay_buffer import replay_buffer
from itool_pipeline.steps.workspace import Workspace
from itool_pipeline_tests.steps.by_hand import workspace
from itool_pipeline_tests.steps.without_model import install, prepared, warm_up

SEARCH: dict[str, Any] = {
    "depth": 5,
    "width": 4,
    "iterations": 7,
    "simulation": 0,
    "c": 0.25,
    "gamma": 0.5,
    "temperature": 0.7,
    "top_k": 7,
    "top_p": 0.9,
    "samples": 6,
    "terminators": ",;",
    "max_fragment_tokens": 9,
    "max_response_tokens": 33,
    "prior": "product",
    "method": "sampling",
    "responses": 3,
    "shard_size": 5,
}
"""Another value than the default for each key."""

OUTCOME: dict[str, Any] = {"correct": 2.0, "wrong": -3.0, "progress": 0.25}
"""The judge is another part of the search: see test_judging."""
SELF_EVALUATION: dict[str, Any] = {"weights": (2.0, 1.0, 0.0, -1.0), "enabled": False, "form": "sampled", "samples": 9}


class Recorder:
    """In place of the engine: what it was made with."""

    def __init__(self, loaded: Any, rule: Any, sampling: Any, **rest: Any) -> None:
        self.rule, self.sampling = rule, sampling


@pytest.fixture(autouse=True)
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    class Loaded:
        tokenizer = None

    class Template:
        end_token = 2

    monkeypatch.setattr(models, "inference_model", lambda ws, checkpoint: Loaded())
    monkeypatch.setattr(models, "Chat", lambda tokenizer, tools: Template())
    monkeypatch.setattr(transformers_engine, "TransformersEngine", Recorder)


def engine_of(ws: Workspace) -> tuple[Any, Any]:
    engine: Any = models.search_engine(ws, "base_model")[0]
    return engine.rule, engine.sampling


def reached(ws: Workspace) -> dict[str, Any]:
    """Everything that is made from the section `search`."""
    config = ws.experiment.search
    return {
        "search": trees.search_settings(config),
        "responses": trees.response_settings(config),
        "rewards": trees.reward_settings(config),
        "engine": engine_of(ws),
    }


def test_the_tables_name_every_key() -> None:
    assert {*SEARCH, "outcome", "self_evaluation"} == set(SearchConfig.model_fields)
    assert {*OUTCOME, "judge"} == set(OutcomeConfig.model_fields)
    assert set(SELF_EVALUATION) == set(SelfEvaluationConfig.model_fields)


WHERE = {
    **dict.fromkeys(("depth", "width", "iterations", "simulation", "c", "gamma", "samples"), "search"),
    **dict.fromkeys(("max_response_tokens", "prior"), "search responses"),
    **dict.fromkeys(("temperature", "top_k", "top_p", "max_fragment_tokens", "terminators"), "engine"),
    "responses": "responses",
}


@pytest.mark.parametrize("key", WHERE)
def test_a_key_of_the_search_changes_what_it_should(tmp_path: Path, key: str) -> None:
    room = {"samples": 8} if key == "width" else {}
    before = reached(workspace(tmp_path, search=room))
    after = reached(workspace(tmp_path, search={**room, key: SEARCH[key]}))
    assert {name for name in before if before[name] != after[name]} == set(WHERE[key].split())
    parts = (after["search"], after["responses"], *after["engine"])
    values = [getattr(part, key) for part in parts if hasattr(part, key)]
    assert values
    assert all(value == SEARCH[key] for value in values)


@pytest.mark.parametrize(
    ("section", "key"),
    [*(("outcome", key) for key in OUTCOME), *(("self_evaluation", key) for key in ("weights", "enabled", "form"))],
)
def test_a_key_of_the_reward_changes_the_reward(tmp_path: Path, section: str, key: str) -> None:
    over = {"outcome": OUTCOME, "self_evaluation": SELF_EVALUATION}[section][key]
    before, after = reached(workspace(tmp_path)), reached(workspace(tmp_path, search={section: {key: over}}))
    assert {name for name in before if before[name] != after[name]} == {"rewards"}


def test_sampled_grades_have_their_number(tmp_path: Path) -> None:
    sampled = workspace(tmp_path, search={"self_evaluation": {"form": "sampled"}})
    more = workspace(tmp_path, search={"self_evaluation": {"form": "sampled", "samples": 9}})
    numbers = [reached(ws)["rewards"].grade_samples for ws in (workspace(tmp_path), sampled, more)]
    assert numbers == [None, 4, 9]


def test_method_and_shard_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    called: list[tuple[str, int]] = []

    def search(name: str) -> Any:
        def run(problems: Any, *args: Any, **rest: Any) -> list[Any]:
            called.append((name, len(problems)))
            return []

        return run

    monkeypatch.setattr(trees, "search", search("mcts"))
    monkeypatch.setattr(trees, "sample_responses", search("sampling"))
    for method in ("mcts", "sampling"):
        ws = prepared(tmp_path, search={"method": method, "shard_size": 5}, split={"validation_fraction": 0.0})
        warm_up(ws)
        replay_buffer(ws, 1)
        for index in trees.plan_shards(ws, 1):
            trees.search_shard(ws, 1, index)
        assert called[-4:] == [(method, size) for size in (5, 5, 5, 1)]
