"""What a scoring writes and shows, of any benchmark: here of one written by hand."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from itool_pipeline.benchmarks.types import Aggregate, Benchmark, Decided, Decision, Drawn, Examinee, Pool, share
from itool_pipeline.calls.python_calls import PYTHON_CALLS
from itool_pipeline.calls.syntax import CallSyntax
from itool_pipeline.config import Experiment
from itool_pipeline.core.types import Example
from itool_pipeline.data.rows import Quarantined, Rows
from itool_pipeline.judges.mistakes import ErrorType, Mistake
from itool_pipeline.steps import cases, examinee
from itool_pipeline.steps.cases import benchmark_cases, drawn_cases, read_pool
from itool_pipeline.steps.examinee import ModelExaminee
from itool_pipeline.steps.scoring import score_checkpoint
from itool_pipeline.steps.workspace import StepError, Workspace
from itool_pipeline_tests.steps.by_hand import database_of, example, put, workspace
from itool_pipeline_tests.steps.without_model import no_measurement
from itool_pipeline_tests.store.by_hand import ask


def wrong(type_: ErrorType, parameter: str = "") -> Decision:
    return Decision(False, "theirs", "their words", Mistake(type_, "book", parameter, "1", "2"))


DECISIONS = {
    "c1": Decision(True),
    "c2": wrong(ErrorType.PARAMETER_VALUE, "day"),
    "c3": wrong(ErrorType.TOOL_NAME),
    "c4": Decision(False, "theirs", "their words"),
}


ANSWERS = {"c4": "[f(a=1)]"}


class ByHand(Benchmark[Example]):
    """Goes by the name of a registered one, whose section and assets it takes. Its last case does not fit."""

    name = "api_bank"
    title = "cases by hand"
    about = "By hand."
    categories = ("late", "early")
    cases_version = scores_version = "1"

    def source(self, experiment: Experiment) -> Mapping[str, Any]:
        return {}

    def load_cases(self, experiment: Experiment, downloads: Path) -> Rows:
        made = [replace(example(key), category="early" if key < "c3" else "late") for key in (*DECISIONS, "c5")]
        return Rows(tuple(made), (Quarantined("api_bank", "line 9", "no call: of f", "{}"),))

    def draw_cases(self, experiment: Experiment, pool: Pool, downloads: Path) -> Drawn[Example]:
        return Drawn([x for x in pool.examples if pool.tokens[x.id] != 2], Counter({"too long": 1}))

    def examine(
        self, experiment: Experiment, cases: Sequence[Example], examinee: Examinee, downloads: Path
    ) -> Iterator[Decided[Example]]:
        outputs = examinee.answer_each(cases)
        return (Decided(case, outputs[case.id], DECISIONS[case.id]) for case in cases)

    def aggregates(
        self, decided: Sequence[Decided[Example]], sizes: Mapping[str, int], syntax: CallSyntax = PYTHON_CALLS
    ) -> Sequence[Aggregate]:
        return [share("half", "late", 1, sizes["late"]), Aggregate("mean", "all", None, ("early", "late"))]


class Template:
    """The prompt of the last case has two tokens, every other one."""

    def prompt(self, case: Example) -> tuple[int, ...]:
        return (1, 2) if case.id == "c5" else (1,)


@pytest.fixture
def ws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    for module in (cases, examinee):
        monkeypatch.setattr(module, "chat", lambda ws: Template())
    monkeypatch.setattr(
        ModelExaminee, "answer_each", lambda self, asked: {x.id: ANSWERS.get(x.id, f"to {x.id}") for x in asked}
    )
    no_measurement(monkeypatch)
    ws = workspace(tmp_path, evaluation={"bfcl": None, "api_bank": {}})
    put(ws, "base_model", lambda directory: (directory / "weights").write_text("x"))
    benchmark_cases(ws, ByHand())
    return ws


def test_the_pool_is_rows_of_examples_that_are_held_out(ws: Workspace) -> None:
    made = ws.input("api_bank_cases").manifest.metadata
    assert (made["cases"], made["groups"], made["quarantined"]) == (5, 5, 1)
    assert ask(database_of(ws), "SELECT position, reason FROM quarantine") == [("line 9", "no call: of f")]
    rows = ask(database_of(ws), "SELECT DISTINCT category, part, split, in_buffer FROM experiment_examples ORDER BY 1")
    assert rows == [("early", "held_out", None, False), ("late", "held_out", None, False)]
    pool = read_pool(ws, ByHand())
    assert pool.sizes() == {"early": 2, "late": 3}
    assert pool.tokens == {"c1": 1, "c2": 1, "c3": 1, "c4": 1, "c5": 2}


def test_rows_of_a_scoring(ws: Workspace) -> None:
    artifact = score_checkpoint(ws, ByHand(), "base").artifact
    shown = artifact.manifest.metadata
    assert {k: shown[k] for k in ("cases", "correct", "accuracy", "left_out")} == {
        "cases": 4,
        "correct": 1,
        "accuracy": 0.25,
        "left_out": 1,
    }
    assert shown["left_out_by_reason"]["markdown"].splitlines()[2:] == ["| too long | 1 |"]
    assert shown["by_category"]["markdown"].splitlines()[2:] == ["| late | 0 | 2 |", "| early | 1 | 2 |"]
    base = ws.planned["base_model"].fingerprint
    columns = "checkpoint, checkpoint_artifact, benchmark"
    assert ask(database_of(ws), f"SELECT {columns}, category, correct, total FROM scores ORDER BY category") == [
        ("base", base, "api_bank", "early", 1, 2),
        ("base", base, "api_bank", "late", 0, 2),
    ]
    columns = "case_id, output, correct, error_type, error, mistake, function, parameter, expected, got"
    theirs = ("theirs", "their words")
    assert ask(database_of(ws), f"SELECT {columns} FROM cases ORDER BY case_id") == [
        ("c1", "to c1", True, "", "", *[None] * 5),
        ("c2", "to c2", False, *theirs, "parameter_value", "book", "day", "1", "2"),
        ("c3", "to c3", False, *theirs, "tool_name", "book", "", "1", "2"),
        ("c4", "[f(a=1)]", False, *theirs, *[None] * 5),
    ]
    should = [bool(case.gold) for case in read_pool(ws, ByHand()).examples[:4]]
    columns = "case_id, should_call, calls"
    assert ask(database_of(ws), f"SELECT {columns} FROM cases ORDER BY case_id") == [
        (f"c{i}", wanted, i == 4) for i, wanted in enumerate(should, 1)
    ]
    columns = "rule, part, accuracy, missing, correct, total"
    assert ask(database_of(ws), f"SELECT {columns} FROM aggregate_scores ORDER BY rule") == [
        ("half", "late", 1 / 3, "", 1, 3),
        ("mean", "all", None, "early, late", None, None),
    ]
    assert score_checkpoint(ws, ByHand(), "base").reused


def test_when_no_case_is_left_the_key_to_change_is_told(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ByHand, "draw_cases", lambda *_: Drawn((), Counter({"too long": 5})))
    with pytest.raises(StepError, match=r"evaluation\.api_bank leaves no case; raise its max_prompt_tokens"):
        drawn_cases(ws, ByHand(), read_pool(ws, ByHand()))


def test_scores_on_a_checkpoint_say_which(ws: Workspace) -> None:
    put(ws, "warmup/hard", lambda directory: (directory / "weights").write_text("x"))
    manifest = score_checkpoint(ws, ByHand(), "warmup").artifact.manifest
    assert json.loads(json.dumps(manifest.inputs)).keys() == {"base_model", "api_bank_cases", "warmup/hard"}
    found = ask(database_of(ws), "SELECT DISTINCT checkpoint, checkpoint_artifact FROM cases")
    assert found == [("warmup", ws.planned["warmup/hard"].fingerprint)]
