"""The multi-turn step with a model that follows a script: batches, full contexts, and going on after a kill."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from itool_pipeline.core.types import Example
from itool_pipeline.data.bfcl_multi_turn import MultiTurnCase
from itool_pipeline.files.parts import Parts
from itool_pipeline.steps import bfcl_multi_turn as step
from itool_pipeline.steps.workspace import Workspace
from itool_pipeline_tests.benchmarks.bfcl.conversation_cases import gold_script
from itool_pipeline_tests.steps.by_hand import workspace


class Template:
    """A prompt has a token for each message."""

    def prompt(self, example: Example) -> tuple[int, ...]:
        return tuple(range(len(example.messages)))


class ScriptedModel(step._Responder):
    """Says the expected calls, each in a step; after `calls` batches the run is killed."""

    batches: list[list[str]]
    calls = 10**9
    scripts: Mapping[str, Sequence[Sequence[str]]]

    def __call__(self, waiting: Sequence[Any]) -> dict[str, str]:
        self.waiting = {conversation.case.id: conversation.result for conversation in waiting}
        return super().__call__(waiting)

    def _generated(self, prompts: Mapping[str, tuple[int, ...]]) -> dict[str, str]:
        if len(self.batches) == self.calls:
            raise KeyboardInterrupt
        self.batches.append(list(prompts))
        return {key: self.scripts[key][len(self.waiting[key]) - 1][len(self.waiting[key][-1])] for key in prompts}


@pytest.fixture
def ws(bfcl_dir: Path, downloads_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    categories = ("multi_turn_base", "multi_turn_miss_func")
    settings = {"categories": categories, "conversations_per_category": 2, "batch_size": 3}
    made = workspace(tmp_path, evaluation={"bfcl": settings})
    made.paths.downloads.symlink_to(downloads_dir.resolve())
    monkeypatch.setattr(step, "chat", lambda ws: Template())
    monkeypatch.setattr(step, "context_tokens", lambda ws: None)
    monkeypatch.setattr(step, "_Responder", ScriptedModel)
    monkeypatch.setattr(ScriptedModel, "batches", [], raising=False)
    monkeypatch.setattr(ScriptedModel, "scripts", scripts(step.multi_turn_cases(made)), raising=False)
    return made


def scripts(cases: Sequence[MultiTurnCase]) -> dict[str, list[list[str]]]:
    return {case.id: gold_script(case, one_by_one=True) for case in cases}


def test_the_expected_calls_win_every_conversation(ws: Workspace, tmp_path: Path) -> None:
    judged = step.judged_conversations(ws, "base", Parts(tmp_path / "parts"))
    assert [case.category for case, _, _ in judged.values()] == ["multi_turn_base"] * 2 + ["multi_turn_miss_func"] * 2
    assert [verdict.correct for _, _, verdict in judged.values()] == [True] * 4
    assert [result for _, result, _ in judged.values()] == [ScriptedModel.scripts[key] for key in judged]
    assert [len(batch) for batch in ScriptedModel.batches[:2]] == [3, 1]


def test_a_killed_run_goes_on_and_asks_the_model_for_nothing_twice(
    ws: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = step.judged_conversations(ws, "base", Parts(tmp_path / "whole"))
    in_one_go = list(ScriptedModel.batches)
    monkeypatch.setattr(ScriptedModel, "batches", [])
    monkeypatch.setattr(ScriptedModel, "calls", 5)
    with pytest.raises(KeyboardInterrupt):
        step.judged_conversations(ws, "base", Parts(tmp_path / "parts"))
    assert len(ScriptedModel.batches) == 5
    monkeypatch.setattr(ScriptedModel, "calls", 10**9)
    assert step.judged_conversations(ws, "base", Parts(tmp_path / "parts")) == whole
    assert ScriptedModel.batches == in_one_go


@pytest.mark.parametrize(
    ("positions", "asked", "limit"), [(None, 5, "max_context_tokens"), (5, 6, "the model's context")]
)
def test_a_conversation_that_outgrows_the_context_ends_and_is_wrong(
    ws: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, positions: int | None, asked: int, limit: str
) -> None:
    monkeypatch.setattr(step, "context_tokens", lambda ws: positions)
    limits = {"max_new_tokens": 1, "max_context_tokens": asked}
    settings = {"categories": ("multi_turn_base",), "conversations_per_category": 2, **limits}
    (tmp_path / "small").mkdir()
    small = workspace(tmp_path / "small", evaluation={"bfcl": settings})
    small.paths.downloads.symlink_to(ws.paths.downloads.resolve())
    for _, result, verdict in step.judged_conversations(small, "base", Parts(tmp_path / "parts")).values():
        # system, user, answer, result leave room for an answer; the next two messages do not
        assert result == f"Error during inference: 6 tokens leave no room for an answer ({limit})"
        assert (verdict.correct, verdict.error_type) == (False, "multi_turn:inference_error")
    assert [len(batch) for batch in ScriptedModel.batches] == [2, 2]


def test_without_multi_turn_categories_nothing_is_started(tmp_path: Path) -> None:
    ws = workspace(tmp_path)
    assert step.judged_conversations(ws, "base", Parts(tmp_path / "parts")) == {}
