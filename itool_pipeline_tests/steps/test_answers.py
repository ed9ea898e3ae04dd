"""What a scoring shows of its wrong cases."""

from __future__ import annotations

from pathlib import Path

import pytest

from itool_pipeline.core.error_types import ErrorType, Mistake
from itool_pipeline.core.statistics import summarise
from itool_pipeline.steps import answers
from itool_pipeline.steps.answers import Decision, Scored
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
        metadata = answers.write_rows(step, scored, rows, scores)
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


def test_what_fails_most(shown: dict[str, str]) -> None:
    assert shown["fails_most"].splitlines() == [
        "| function | parameter | mistake | cases |",
        "| --- | --- | --- | --- |",
        "| book | day | parameter_value | 2 |",
        "| book |  | tool_name | 1 |",
    ]
