"""Answers in batches that survive a kill."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from itool_pipeline.benchmarks.types import Answers, Prompt
from itool_pipeline.config import BenchmarkConfig
from itool_pipeline.core.types import Example
from itool_pipeline.files.parts import Parts
from itool_pipeline.steps import examinee, models
from itool_pipeline.steps.artifact_files import POOL_FILE
from itool_pipeline.steps.examinee import ModelExaminee, length_batches
from itool_pipeline.steps.example_files import write_cases
from itool_pipeline.steps.workspace import StepError
from itool_pipeline_tests.steps.by_hand import example, put, workspace


@given(
    st.dictionaries(st.text("ab", min_size=1, max_size=5), st.integers(1, 50), max_size=30),
    st.integers(1, 8),
    st.integers(1, 120),
)
def test_batches_hold_every_key_once_within_the_limits(lengths: dict[str, int], most: int, tokens: int) -> None:
    made = length_batches(lengths, most, tokens)
    assert sorted(key for batch in made for key in batch) == sorted(lengths)
    for batch in made:
        assert len(batch) <= most
        assert len(batch) == 1 or len(batch) * max(lengths[key] for key in batch) <= tokens
    order = [lengths[key] for batch in made for key in batch]
    assert order == sorted(order, reverse=True)


def test_batches_by_hand() -> None:
    lengths = {"a": 10, "b": 9, "c": 30, "d": 8, "e": 1}
    assert length_batches(lengths, 2, 20) == [["c"], ["a", "b"], ["d", "e"]]


def prompt_of(case: Example) -> Prompt:
    """A prompt is as long as its question."""
    return tuple(range(len(case.question)))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The batches that the model was asked for; its third call kills the run, once."""
    batches: list[list[str]] = []

    def answer(self: ModelExaminee, prompts: Mapping[str, Prompt]) -> Answers:
        batches.append(list(prompts))
        if len(batches) == 3:
            raise KeyboardInterrupt
        return {key: f"answer to {key}" for key in prompts}

    monkeypatch.setattr(examinee, "chat", lambda ws: None)
    monkeypatch.setattr(models, "context_tokens", lambda ws: None)
    monkeypatch.setattr(ModelExaminee, "answer_batch", answer)
    return batches


CASES = [example(f"c{length}", "x" * length) for length in (2, 9, 3, 8, 7, 1)]


THREE = BenchmarkConfig(batch_size=3)


def model(root: Path, settings: BenchmarkConfig = THREE, cases: Sequence[Example] = CASES) -> ModelExaminee:
    ws = workspace(root, compute={"batch_tokens": 16})
    put(ws, "bfcl_cases", lambda directory: write_cases(directory / POOL_FILE, cases, prompt_of))
    return ModelExaminee.of(ws, "base", "bfcl", settings, Parts(root / "parts"))


def test_a_killed_scoring_goes_on(tmp_path: Path, asked: list[list[str]]) -> None:
    with pytest.raises(KeyboardInterrupt):
        model(tmp_path).answer_each(CASES)
    assert model(tmp_path).answer_each(CASES) == {case.id: f"answer to {case.id}" for case in CASES}
    # Nine tokens leave no room for a second; 8 + 8 are 16; the third batch was asked for twice.
    assert asked == [["c9"], ["c8", "c7"], ["c3", "c2", "c1"], ["c3", "c2", "c1"]]


def test_a_part_of_other_cases_is_not_taken(tmp_path: Path, asked: list[list[str]]) -> None:
    model(tmp_path).answer_each(CASES[:1])
    assert model(tmp_path).answer_each(CASES[2:3]) == {"c3": "answer to c3"}


def test_rounds_have_parts_of_their_own(tmp_path: Path, asked: list[list[str]]) -> None:
    prompts = {"c1": (1, 2)}
    for name in ("first", "second", "first"):
        assert model(tmp_path).answer_round(name, prompts) == {"c1": "answer to c1"}
    assert asked == [["c1"], ["c1"]]


@pytest.mark.parametrize(("positions", "fits"), [(107, True), (106, False)])
def test_prompts_that_leave_no_room_for_an_answer_are_refused_before_the_first_batch(
    tmp_path: Path, asked: list[list[str]], monkeypatch: pytest.MonkeyPatch, positions: int, fits: bool
) -> None:
    monkeypatch.setattr(models, "context_tokens", lambda ws: positions)
    cases = [example("short", "x" * 5), example("long", "x" * 100)]
    examined = model(tmp_path, SEVEN, cases)
    if fits:
        assert len(examined.answer_each(cases)) == 2
    else:
        told = r"answering evaluation\.bfcl takes 107 tokens .* 106 .* lower evaluation\.bfcl\.max_prompt_tok"
        with pytest.raises(StepError, match=told):
            examined.answer_each(cases)
        assert asked == []


SEVEN = BenchmarkConfig(max_new_tokens=7)
