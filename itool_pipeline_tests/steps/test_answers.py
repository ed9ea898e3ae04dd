"""Answers in batches that survive a kill, and what a scoring shows of its wrong cases."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from itool_pipeline.config import ApiBankConfig, BfclConfig
from itool_pipeline.core.statistics import summarise
from itool_pipeline.core.types import Example
from itool_pipeline.files.parts import Parts
from itool_pipeline.judges.mistakes import ErrorType, Mistake
from itool_pipeline.steps import answers, models
from itool_pipeline.steps.answers import Answers, Decision, Scored
from itool_pipeline.steps.display import MARKDOWN
from itool_pipeline.store.artifacts import Step
from itool_pipeline_tests.steps.by_hand import example, workspace


def wrong(type_: ErrorType, parameter: str = "") -> Decision:
    return Decision(False, "theirs", "their words", Mistake(type_, "book", parameter))


DECISIONS = {
    "c1": Decision(True),
    "c2": wrong(ErrorType.PARAMETER_VALUE, "day"),
    "c3": wrong(ErrorType.PARAMETER_VALUE, "day"),
    "c4": wrong(ErrorType.TOOL_NAME),
    "c5": Decision(False, "theirs", "their words"),
}


@pytest.fixture
def shown(tmp_path: Path) -> dict[str, str]:
    """Title → table of the metadata."""
    scored = Scored("warmup", "f" * 16, "bfcl")
    rows = [answers.case_row(scored, example(key), "said", decision) for key, decision in DECISIONS.items()]
    scores = summarise((row["category"], row["correct"]) for row in rows)
    found: dict[str, str] = {}

    def make(step: Step) -> dict[str, object]:
        metadata = answers.write_rows(step, scored, rows, scores, Counter({"too long": 2}))
        found.update({k: v[MARKDOWN] for k, v in metadata.items() if isinstance(v, dict) and MARKDOWN in v})
        return metadata

    workspace(tmp_path).produce("bfcl/warmup", make, answers.tables)
    return found


def test_errors_by_category(shown: dict[str, str]) -> None:
    assert shown["errors_by_category"].splitlines() == [
        "| category | parameter_value | tool_name | unclassified |",
        "| --- | --- | --- | --- |",
        "| simple_python | 2 | 1 | 1 |",
    ]


def test_what_could_not_be_scored(shown: dict[str, str]) -> None:
    assert shown["left_out_by_reason"].splitlines()[2:] == ["| too long | 2 |"]


def test_what_fails_most(shown: dict[str, str]) -> None:
    assert shown["fails_most"].splitlines() == [
        "| function | parameter | mistake | cases |",
        "| --- | --- | --- | --- |",
        "| book | day | parameter_value | 2 |",
        "| book |  | tool_name | 1 |",
    ]


@given(
    st.dictionaries(st.text("ab", min_size=1, max_size=5), st.integers(1, 50), max_size=30),
    st.integers(1, 8),
    st.integers(1, 120),
)
def test_batches_hold_every_key_once_within_the_limits(lengths: dict[str, int], most: int, tokens: int) -> None:
    made = answers.batches(lengths, most, tokens)
    assert sorted(key for batch in made for key in batch) == sorted(lengths)
    for batch in made:
        assert len(batch) <= most
        assert len(batch) == 1 or len(batch) * max(lengths[key] for key in batch) <= tokens
    order = [lengths[key] for batch in made for key in batch]
    assert order == sorted(order, reverse=True)


def test_batches_by_hand() -> None:
    lengths = {"a": 10, "b": 9, "c": 30, "d": 8, "e": 1}
    assert answers.batches(lengths, 2, 20) == [["c"], ["a", "b"], ["d", "e"]]


class Template:
    """A prompt is as long as its question."""

    def prompt(self, case: Example) -> tuple[int, ...]:
        return tuple(range(len(case.question)))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The batches that the model was asked for; its third call kills the run, once."""
    batches: list[list[str]] = []

    def answer(ws: object, checkpoint: str, template: Template, settings: object, prompts: answers.Prompts) -> Answers:
        batches.append(list(prompts))
        if len(batches) == 3:
            raise KeyboardInterrupt
        return {key: f"answer to {key}" for key in prompts}

    monkeypatch.setattr(answers, "chat", lambda ws: Template())
    monkeypatch.setattr(models, "context_tokens", lambda ws: None)
    monkeypatch.setattr(answers, "answer_batch", answer)
    return batches


CASES = [example(f"c{length}", "x" * length) for length in (2, 9, 3, 8, 7, 1)]


def test_a_killed_scoring_goes_on(tmp_path: Path, asked: list[list[str]]) -> None:
    ws = workspace(tmp_path, compute={"batch_tokens": 16}, evaluation={"bfcl": {"batch_size": 3}})
    parts = Parts(tmp_path / "parts")
    with pytest.raises(KeyboardInterrupt):
        answers.answers(ws, "base", CASES, ws.experiment.evaluation.bfcl, parts)
    found = answers.answers(ws, "base", CASES, ws.experiment.evaluation.bfcl, parts)
    assert found == {case.id: f"answer to {case.id}" for case in CASES}
    # Nine tokens leave no room for a second; 8 + 8 are 16; the third batch was asked for twice.
    assert asked == [["c9"], ["c8", "c7"], ["c3", "c2", "c1"], ["c3", "c2", "c1"]]


def test_a_part_of_other_cases_is_not_taken(tmp_path: Path, asked: list[list[str]]) -> None:
    ws = workspace(tmp_path, compute={"batch_tokens": 16}, evaluation={"bfcl": {"batch_size": 3}})
    parts = Parts(tmp_path / "parts")
    answers.answers(ws, "base", CASES[:1], ws.experiment.evaluation.bfcl, parts)
    assert answers.answers(ws, "base", CASES[2:3], ws.experiment.evaluation.bfcl, parts) == {"c3": "answer to c3"}


@pytest.mark.parametrize(("positions", "fits"), [(107, True), (106, False)])
@pytest.mark.parametrize(
    ("settings", "section"),
    [(BfclConfig(max_new_tokens=7), "bfcl"), (ApiBankConfig(max_new_tokens=7), "api_bank")],
    ids=["bfcl", "api_bank"],
)
def test_prompts_that_leave_no_room_for_an_answer_are_refused_before_the_first_batch(
    tmp_path: Path,
    asked: list[list[str]],
    monkeypatch: pytest.MonkeyPatch,
    settings: BfclConfig | ApiBankConfig,
    section: str,
    positions: int,
    fits: bool,
) -> None:
    monkeypatch.setattr(models, "context_tokens", lambda ws: positions)
    ws, cases = workspace(tmp_path), [example("short", "x" * 5), example("long", "x" * 100)]
    if fits:
        assert len(answers.answers(ws, "base", cases, settings, Parts(tmp_path / "parts"))) == 2
    else:
        key = rf"evaluation\.{section}"
        with pytest.raises(
            ValueError, match=rf"answering {key} takes 107 tokens .* 106 .* lower {key}\.max_prompt_tok"
        ):
            answers.answers(ws, "base", cases, settings, Parts(tmp_path / "parts"))
        assert asked == []
