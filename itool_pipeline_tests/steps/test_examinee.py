"""Answers in batches that survive a kill."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from itool_pipeline.benchmarks.types import Prompt
from itool_pipeline.config import BenchmarkConfig
from itool_pipeline.core.types import Example
from itool_pipeline.files.parts import Parts
from itool_pipeline.steps import examinee, models
from itool_pipeline.steps.answer_batches import prompt_batches
from itool_pipeline.steps.artifact_files import POOL_FILE
from itool_pipeline.steps.examinee import ModelExaminee
from itool_pipeline.steps.example_files import write_cases
from itool_pipeline.steps.workspace import StepError
from itool_pipeline_tests.steps.by_hand import example, put, workspace


@given(st.dictionaries(st.text("ab", min_size=1, max_size=5), st.lists(st.integers(0, 2), max_size=4).map(tuple)))
def test_batches_hold_every_key_once_and_prompts_that_begin_alike_follow_each_other(prompts: dict[str, Prompt]) -> None:
    made = prompt_batches(prompts, 3)
    keys = [key for batch in made for key in batch]
    assert sorted(keys) == sorted(prompts)
    assert [len(batch) for batch in made[:-1]] == [3] * (len(made) - 1)
    assert [prompts[key] for key in keys] == sorted(prompts.values())


def prompt_of(case: Example) -> Prompt:
    """A prompt is as long as its question."""
    return tuple(range(len(case.question)))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the model was asked for; the run is killed before its fifth answer, once."""
    keys: list[str] = []

    def each(self: ModelExaminee, prompts: Mapping[str, Prompt]) -> Iterator[tuple[str, str]]:
        for key in prompts:
            keys.append(key)
            if len(keys) == 5:
                raise KeyboardInterrupt
            yield key, f"answer to {key}"

    monkeypatch.setattr(examinee, "chat", lambda ws: None)
    monkeypatch.setattr(models, "context_tokens", lambda ws: None)
    monkeypatch.setattr(ModelExaminee, "each_answer", each)
    return keys


CASES = [example(f"c{length}", "x" * length) for length in (2, 9, 3, 8, 7, 1)]


THREE = BenchmarkConfig(batch_size=3)


def model(root: Path, settings: BenchmarkConfig = THREE, cases: Sequence[Example] = CASES) -> ModelExaminee:
    ws = workspace(root)
    put(ws, "bfcl_cases", lambda directory: write_cases(directory / POOL_FILE, cases, prompt_of))
    return ModelExaminee.of(ws, "base", "bfcl", settings, Parts(root / "parts"))


def test_a_killed_scoring_goes_on(tmp_path: Path, asked: list[str]) -> None:
    with pytest.raises(KeyboardInterrupt):
        model(tmp_path).answer_each(CASES)
    assert model(tmp_path).answer_each(CASES) == {case.id: f"answer to {case.id}" for case in CASES}
    # A prompt is the beginning of the next longer one. The first batch of three was whole, the second is asked again.
    assert asked == ["c1", "c2", "c3", "c7", "c8", "c7", "c8", "c9"]


def test_a_part_of_other_cases_is_not_taken(tmp_path: Path, asked: list[str]) -> None:
    model(tmp_path).answer_each(CASES[:1])
    assert model(tmp_path).answer_each(CASES[2:3]) == {"c3": "answer to c3"}


def test_rounds_have_parts_of_their_own(tmp_path: Path, asked: list[str]) -> None:
    prompts = {"c1": (1, 2)}
    for name in ("first", "second", "first"):
        assert model(tmp_path).answer_round(name, prompts) == {"c1": "answer to c1"}
    assert asked == ["c1", "c1"]


@pytest.mark.parametrize(("positions", "fits"), [(107, True), (106, False)])
def test_prompts_that_leave_no_room_for_an_answer_are_refused_before_the_first_batch(
    tmp_path: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch, positions: int, fits: bool
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
