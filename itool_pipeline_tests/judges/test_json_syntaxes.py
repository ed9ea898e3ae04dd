"""Verdicts and progress where calls are JSON: by the same rules, of the same calls."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from itool_pipeline.benchmarks.bfcl.rules import BFCL_RULES
from itool_pipeline.calls.hermes import CLOSE, HERMES_CALLS, OPEN
from itool_pipeline.calls.llama3_json import LLAMA3_JSON_CALLS
from itool_pipeline.calls.syntax import CallSyntax
from itool_pipeline.calls.syntaxes import in_syntax
from itool_pipeline.calls.tool_schema import tool_names
from itool_pipeline.calls.types import GoldCall
from itool_pipeline.config import OutcomeConfig
from itool_pipeline.core.reward import GradePrompt, ResponseState, SearchProblem, outcome_of
from itool_pipeline.core.types import Example, Expectation, Message
from itool_pipeline.data.bfcl import load_bfcl
from itool_pipeline.judges.gold_rules import GOLD_RULES
from itool_pipeline.judges.mistakes import ErrorType, classify_mistake
from itool_pipeline.judges.rule_judge import RuleJudge
from itool_pipeline_tests.benchmarks.bfcl.mutations import mutated_answer

SYNTAXES = [HERMES_CALLS, LLAMA3_JSON_CALLS]
TOOL = {
    "name": "f",
    "parameters": {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "string"}}},
}
GOLD = (GoldCall("f", {"a": (1,), "b": ("x",)}),)


def example(*, expects: Expectation = Expectation.CALLS) -> Example:
    gold = GOLD if expects is Expectation.CALLS else ()
    return Example("e", "own", "own", (Message("user", "q"),), (TOOL,), "", gold, "e", expects=expects)


def one(syntax: CallSyntax, name: str, arguments: str) -> str:
    key = "arguments" if syntax is HERMES_CALLS else "parameters"
    text = f'{{"name": "{name}", "{key}": {arguments}}}'
    return f"{OPEN}\n{text}\n{CLOSE}" if syntax is HERMES_CALLS else text


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda s: s.name)
def test_every_beginning_of_a_gold_answer_agrees_more_and_more(bfcl_dir: Path, syntax: CallSyntax) -> None:
    judge, draw = RuleJudge(BFCL_RULES, syntax), random.Random(3)
    examples = load_bfcl(bfcl_dir, ["simple_python", "multiple", "parallel", "live_multiple"]).examples
    for case in draw.sample([e for e in examples if e.response], 60):
        text = in_syntax(case.response, syntax, tool_names(case.tools))
        values = []
        for end in range(len(text) + 1):
            so_far = judge.agreement(case, text[:end])
            assert not so_far.flawed, text[:end]
            values.append(so_far.value)
        assert values == sorted(values)
        assert values[0] == 0
        assert values[-1] == 1
        assert judge.verdict(case, text).correct


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda s: s.name)
def test_what_has_a_flaw_is_never_right(bfcl_dir: Path, syntax: CallSyntax) -> None:
    """But for a key that is given twice, of which JSON takes the last, and words, which Hermes' decoder passes over."""
    judge, draw = RuleJudge(BFCL_RULES, syntax), random.Random(4)
    examples = load_bfcl(bfcl_dir, ["simple_python", "parallel", "live_multiple"]).examples
    wrong = 0
    for case in draw.sample([e for e in examples if e.response], 150):
        _, text = mutated_answer(case, draw, syntax)
        flawed = [end for end in range(len(text) + 1) if judge.agreement(case, text[:end]).flawed]
        passed_over = '"name": "x", "name"' in text or syntax.has_words_beside_calls(text)
        assert not flawed or not judge.verdict(case, text).correct or passed_over, text
        assert flawed == list(range(flawed[0], len(text) + 1)) if flawed else True, text
        wrong += bool(flawed)
    assert wrong > 40


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda s: s.name)
def test_by_hand(syntax: CallSyntax) -> None:
    judge, wanted = RuleJudge(GOLD_RULES, syntax), example()
    right = one(syntax, "f", '{"a": 1, "b": "x"}')
    for cut, value in (('"f"', 1 / 3), ("1,", 2 / 3), ('"x"', 2 / 3), ('"x"}', 1.0)):
        assert judge.agreement(wanted, right[: right.index(cut) + len(cut)]).value == pytest.approx(value)
    for text, value in (
        (one(syntax, "g", "{}"), -1 / 3),
        (one(syntax, "f", '{"a": 2, "b": "x"}'), 1 / 3),
        (one(syntax, "f", '{"a": 1}'), 1 / 3),
        (one(syntax, "f", '{"*0": 1}'), -2 / 3),
        ("No tool fits.", -1.0),
    ):
        found = judge.agreement(wanted, text)
        assert found.flawed
        assert found.value == pytest.approx(value), text
        assert not judge.verdict(wanted, text).correct


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda s: s.name)
def test_mistakes_by_hand(syntax: CallSyntax) -> None:
    for text, mistake in (
        ("No tool fits.", ErrorType.TOOLS_COUNT),
        (one(syntax, "f", '{"a": 1,'), ErrorType.CODE_SYNTAX),
        (one(syntax, "g", "{}"), ErrorType.TOOL_NAME),
        (one(syntax, "f", '{"a": 1, "c": "x"}'), ErrorType.PARAMETER_NAME),
        (one(syntax, "f", '{"a": 1}'), ErrorType.PARAMETER_COUNT),
        (one(syntax, "f", '{"a": 1, "b": "y"}'), ErrorType.PARAMETER_VALUE),
    ):
        found = classify_mistake(GOLD_RULES, example(), text, syntax)
        assert found is not None
        assert found.type is mistake, text


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda s: s.name)
def test_words_beside_calls_are_wrong_to_the_search(syntax: CallSyntax) -> None:
    judge, right = RuleJudge(GOLD_RULES, syntax), one(syntax, "f", '{"a": 1, "b": "x"}')
    grade = GradePrompt((), (), (1, 2, 3, 4))

    def correct(text: str, expects: Expectation) -> bool | None:
        problem = SearchProblem(example(expects=expects), (), grade)
        return outcome_of(ResponseState(problem, (1,), text, finished=True), judge, OutcomeConfig()).correct

    for text in (f"So: {right}", f"{right} Done."):
        assert not correct(text, Expectation.CALLS)
        assert not correct(text, Expectation.ANY_CALL)
        assert judge.agreement(example(), text).flawed
    assert correct(right, Expectation.CALLS)
    assert correct(right, Expectation.ANY_CALL)
    assert not correct(right, Expectation.NO_CALL)
    assert correct("No tool fits.", Expectation.NO_CALL)
    assert not correct("", Expectation.NO_CALL)
    assert not correct(right[:-8], Expectation.NO_CALL), "a call that does not decode is no plain text"
