"""Conversations with a model that follows a script: batches, full contexts, and going on after a kill."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path

import pytest

from itool_pipeline.benchmarks.bfcl.benchmark import drawn_conversations
from itool_pipeline.benchmarks.bfcl.multi_turn_cases import MultiTurnCase
from itool_pipeline.benchmarks.bfcl.responder import Judged, judged_conversations
from itool_pipeline.benchmarks.types import Answers, Prompt
from itool_pipeline.config import BfclConfig
from itool_pipeline.core.types import Example
from itool_pipeline.files.parts import Parts
from itool_pipeline.steps import examinee
from itool_pipeline.steps.examinee import ModelExaminee
from itool_pipeline_tests.benchmarks.bfcl.conversation_cases import gold_script
from itool_pipeline_tests.steps.by_hand import workspace

SETTINGS = BfclConfig(
    categories=("multi_turn_base", "multi_turn_miss_func"), conversations_per_category=2, batch_size=3
)


class Template:
    """A prompt has a token for each message; the first says how often the model has answered."""

    is_untouched = False

    def prompt(self, example: Example) -> Prompt:
        answered = sum(message.role == "assistant" for message in example.messages)
        return (answered, *range(1, len(example.messages)))


class Script:
    """In place of the model: it makes the expected calls, each in a step; after `calls` batches the run is killed."""

    def __init__(self, cases: Sequence[MultiTurnCase]) -> None:
        self.turns = {case.id: gold_script(case, one_by_one=True) for case in cases}
        self.batches: list[list[str]] = []
        self.calls = 10**9

    def answer(self, prompts: Mapping[str, Prompt]) -> Answers:
        if len(self.batches) == self.calls:
            raise KeyboardInterrupt
        self.batches.append(list(prompts))
        return {key: list(chain.from_iterable(self.turns[key]))[prompt[0]] for key, prompt in prompts.items()}


@pytest.fixture
def cases(downloads_dir: Path, bfcl_dir: Path) -> tuple[MultiTurnCase, ...]:
    return drawn_conversations(SETTINGS, 0, downloads_dir)


@pytest.fixture
def script(cases: tuple[MultiTurnCase, ...], monkeypatch: pytest.MonkeyPatch) -> Script:
    made = Script(cases)
    monkeypatch.setattr(examinee, "chat", lambda ws: Template())
    monkeypatch.setattr(examinee, "context_tokens", lambda ws: None)
    monkeypatch.setattr(ModelExaminee, "each_answer", lambda self, prompts: iter(made.answer(prompts).items()))
    return made


def held(root: Path, bfcl_dir: Path, cases: Sequence[MultiTurnCase], settings: BfclConfig = SETTINGS) -> list[Judged]:
    """All conversations, with the parts below `root`."""
    model = ModelExaminee.of(workspace(root), "base", "bfcl", settings, Parts(root / "parts"))
    return list(judged_conversations(settings, cases, model, bfcl_dir))


def test_the_expected_calls_win_every_conversation(
    tmp_path: Path, bfcl_dir: Path, cases: tuple[MultiTurnCase, ...], script: Script
) -> None:
    judged = held(tmp_path, bfcl_dir, cases)
    assert [case.category for case, _, _ in judged] == ["multi_turn_base"] * 2 + ["multi_turn_miss_func"] * 2
    assert [verdict.correct for _, _, verdict in judged] == [True] * 4
    assert [result for _, result, _ in judged] == [script.turns[case.id] for case in cases]
    assert [len(batch) for batch in script.batches[:2]] == [4, 4], "a round is asked at once"


def test_a_killed_run_goes_on_and_asks_the_model_for_nothing_twice(
    tmp_path: Path, bfcl_dir: Path, cases: tuple[MultiTurnCase, ...], script: Script
) -> None:
    whole = held(tmp_path / "whole", bfcl_dir, cases)
    in_one_go = list(script.batches)
    script.batches.clear()
    script.calls = 5
    with pytest.raises(KeyboardInterrupt):
        held(tmp_path / "killed", bfcl_dir, cases)
    assert len(script.batches) == 5
    script.calls = 10**9
    assert held(tmp_path / "killed", bfcl_dir, cases) == whole
    assert script.batches == in_one_go


@pytest.mark.parametrize(
    ("positions", "asked", "limit"), [(None, 5, "max_context_tokens"), (5, 6, "the model's context")]
)
def test_a_conversation_that_outgrows_the_context_ends_and_is_wrong(
    tmp_path: Path,
    bfcl_dir: Path,
    cases: tuple[MultiTurnCase, ...],
    script: Script,
    monkeypatch: pytest.MonkeyPatch,
    positions: int | None,
    asked: int,
    limit: str,
) -> None:
    monkeypatch.setattr(examinee, "context_tokens", lambda ws: positions)
    for _, result, verdict in held(
        tmp_path, bfcl_dir, cases[:2], BfclConfig(max_new_tokens=1, max_context_tokens=asked)
    ):
        # system, user, answer, result leave room for an answer; the next two messages do not
        assert result == f"Error during inference: 6 tokens leave no room for an answer ({limit})"
        assert (verdict.correct, verdict.error_type) == (False, "multi_turn:inference_error")
    assert [len(batch) for batch in script.batches] == [2, 2]


def test_without_conversations_nothing_is_started(tmp_path: Path, script: Script) -> None:
    assert held(tmp_path, tmp_path / "no wheel", ()) == []
