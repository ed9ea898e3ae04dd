"""Verdicts and agreement on hand-made examples, the numbers worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest

from itool_pipeline.calls.types import GoldCall
from itool_pipeline.core.judge import Agreement
from itool_pipeline.core.types import Example, Expectation, Message
from itool_pipeline_tests.judges.by_source import JUDGE, mistake_of


def _tool(name: str, required: list[str], **types: str) -> dict[str, Any]:
    properties = {parameter: {"type": kind} for parameter, kind in types.items()}
    return {"name": name, "parameters": {"type": "dict", "properties": properties, "required": required}}


TOOLS = (
    _tool("f", ["a", "b"], a="integer", b="string", c="float"),
    _tool("g", ["x"], x="string"),
)
F = GoldCall("f", {"a": (1,), "b": ("x", "y"), "c": ("", 2.5)})
G = GoldCall("g", {"x": ("p",)})


def _example(category: str, *gold: GoldCall, source: str = "bfcl", tools: tuple[Any, ...] = TOOLS) -> Example:
    return Example("id", source, category, (Message("user", "?"),), tools, "", gold, "id")


SIMPLE = _example("simple_python", F)
PARALLEL = _example("parallel_multiple", F, G)
TEXT = _example("irrelevance")
ANY_CALL = replace(_example("live_relevance"), expects=Expectation.ANY_CALL)


@pytest.mark.parametrize(
    ("response", "correct"),
    [
        ('[f(a=1, b="x")]', True),
        ('f(b="Y ", a=1, c=2.5)', True),
        ('[f(a=1, b="x", c=3.5)]', False),
        ("[f(a=1)]", False),
        ('[f(a="1", b="x")]', False),
        ('[f(a=1, b="x", d=0)]', False),
        ('[f(1, "x")]', False),
        ('[f(0, a=1, b="x")]', True),
        ('[f(a=1, b="x"), g(x="p")]', False),
        ('[g(x="p")]', False),
        ("[]", False),
        ('[f(a=1, b="x"', False),
        ("No.", False),
    ],
)
def test_a_simple_question(response: str, correct: bool) -> None:
    verdict = JUDGE.verdict(SIMPLE, response)
    assert (verdict.correct, bool(verdict.error)) == (correct, not correct)


@pytest.mark.parametrize(
    ("response", "correct"),
    [
        ('[f(a=1, b="x"), g(x="p")]', True),
        ('[g(x="P"), f(a=1, b="x")]', True),
        ('[f(a=1, b="x"), f(a=1, b="x")]', False),
        ('[f(a=1, b="x")]', False),
        ('[f(a=1, b="x"), g(x="q")]', False),
    ],
)
def test_parallel_calls_in_any_order(response: str, correct: bool) -> None:
    assert JUDGE.verdict(PARALLEL, response).correct is correct


def test_each_call_serves_one_gold_call() -> None:
    twice = _example("parallel", F, F)
    assert not JUDGE.verdict(twice, '[f(a=1, b="x"), f(a=1, b="no")]').correct
    assert JUDGE.verdict(twice, '[f(a=1, b="x"), f(a=1, b="y")]').correct


def test_a_simple_question_wants_one_call_whatever_the_gold() -> None:
    two = _example("simple_python", F, G)
    assert JUDGE.verdict(two, '[f(a=1, b="x")]').correct
    assert not JUDGE.verdict(two, '[f(a=1, b="x"), g(x="p")]').correct


@pytest.mark.parametrize(
    ("response", "called"),
    [("No tool fits.", False), ("", False), ("[]", False), ("[f(", False), ("[f(a=1)]", True), ("none()", True)],
)
def test_where_no_call_or_any_call_is_wanted(response: str, called: bool) -> None:
    assert JUDGE.verdict(TEXT, response).correct is not called
    assert JUDGE.verdict(ANY_CALL, response).correct is called
    assert JUDGE.verdict(replace(TEXT, source="toolace", category="no_call"), response).correct is not called


@pytest.mark.parametrize("required", [["x"], []])
def test_empty_text_marks_what_may_be_left_out_in_the_benchmark_only(required: list[str]) -> None:
    tools, gold = (_tool("g", required, x="string"),), GoldCall("g", {"x": ("",)})
    of_users = _example("single_call", gold, source="jsonl", tools=tools)
    assert JUDGE.verdict(of_users, '[g(x="")]').correct
    assert not JUDGE.verdict(of_users, "[g()]").correct
    assert JUDGE.agreement(of_users, "[g()]").value == 0.0  # the name is right, and x lacks
    of_benchmark = _example("simple_python", gold, tools=tools)
    assert JUDGE.verdict(of_benchmark, "[g()]").correct is (required == [])


def test_other_sources_compare_by_value() -> None:
    schema = {"n": {"type": "int"}, "unit": {"type": "str", "default": "km"}, "ids": {"type": "List[int]"}}
    tools = ({"name": "Get It", "parameters": {"properties": schema, "required": ["n"]}},)
    gold = GoldCall("Get It", {"n": (1.0,), "ids": ([1, 2],)})
    example = _example("several_calls", gold, GoldCall("h", {"on": (True,)}), source="toolace", tools=tools)
    right = ("[Get It(n=1, ids=(1, 2)), h(on=true)]", "[h(on=True), Get It(1, ids=[1, 2], unit='km')]")
    wrong = (
        "[Get It(n=1, ids=[2, 1]), h(on=True)]",
        "[Get It(n=1, ids=[1, 2], unit='m'), h(on=True)]",
        "[Get It(n=True, ids=[1, 2]), h(on=True)]",
        "[Get It(ids=[1, 2]), h(on=True)]",
        "[Get It(n=1, ids=[1, 2]), h(on=1)]",
        "[Get It(n=1, ids=[1, 2])]",
        "[Get It(n=1, ids=[1, 2], unit='KM'), h(on=True)]",
    )
    assert [JUDGE.verdict(example, text).correct for text in right] == [True, True]
    assert [JUDGE.verdict(example, text).correct for text in wrong] == [False] * 7
    spelled_out = replace(example, gold=(GoldCall("Get It", {"n": (1,), "unit": ("km",)}),))
    assert JUDGE.verdict(spelled_out, "[Get It(n=1)]").correct


def test_other_languages_are_refused() -> None:
    java = replace(SIMPLE, language="java")
    for decide in (JUDGE.verdict, JUDGE.agreement):
        with pytest.raises(ValueError, match="java are decided by the official checker only"):
            decide(java, "[f()]")
    assert JUDGE.verdict(replace(TEXT, language="java"), "No.").correct


@pytest.mark.parametrize(
    ("partial", "expected"),
    [
        # three items: the name, a, b
        ("", 0),
        ("```\n", 0),
        ("f", 0),
        ("f(", "1/3"),
        ("[", 0),
        ("[f", 0),
        ("[f(", "1/3"),
        ("[f(a=1", "1/3"),
        ("[f(a=1,", "2/3"),
        ('[f(a=1, b="x, ', "2/3"),
        ('[f(a=1, b="x")', 1),
        ('[f(a=1, b="x")]', 1),
        # the optional c is a fourth item once it is given
        ("[f(a=1, c=2.5,", "3/4"),
        ('[f(a=1, c=2.5, b="x")]', 1),
        ("[f(a=1, c=3.5,", "1/4"),
        # a wrong value takes away what a right one gives
        ("[f(a=2,", 0),
        ('[f(a=2, b="z",', "-1/3"),
        ("[f(a=1, d=0,", "1/3"),
        # what a closed call lacks is wrong, as are an unknown function and all its arguments
        ("[f(a=1)", "1/3"),
        ("[h(", "-1/3"),
        ("[h(a=1, b=2)", -1),
        ("[f(a=1, b='x'), f(", "2/3"),
        # a positional argument gives nothing
        ("[f(1,", 0),
        # errors that no text can mend, and no call at all
        ("[f(a=1 2", 0),
        ("I would", -1),
        ("[1, 2]", -1),
    ],
)
def test_agreement_of_a_simple_question(partial: str, expected: Any) -> None:
    """Right items less wrong ones."""
    assert JUDGE.agreement(SIMPLE, partial).value == pytest.approx(float(Fraction(expected)))


@pytest.mark.parametrize(
    ("partial", "expected"),
    [
        # five items: f, a, b, g, x
        ("[g(", "1/5"),
        ('[g(x="p"), f(a=1,', "4/5"),
        ('[g(x="p"), g(', "1/5"),
        ('[g(x="p"), f(a=1, b="x")]', 1),
    ],
)
def test_agreement_of_parallel_calls(partial: str, expected: Any) -> None:
    assert JUDGE.agreement(PARALLEL, partial).value == pytest.approx(float(Fraction(expected)))


@pytest.mark.parametrize(
    ("partial", "flawed"),
    [
        ("", False),
        ("[f(", False),
        ("[f(a=2", False),  # not finished
        ("[f(a=2,", True),
        ("[f(a=1,", False),
        ("[f(a=1)", True),  # b lacks
        ('[f(a=1, b="x")]', False),
        ("[f(a=1, d=0,", True),
        ("[f(1,", False),  # the decoder drops it
        ("[h", False),
        ("[h(", True),
        ("[f(a=1 2", True),
        ("I", False),  # may become a name
        ("I would", True),
    ],
)
def test_what_is_wrong_for_good(partial: str, flawed: bool) -> None:
    assert JUDGE.agreement(SIMPLE, partial).flawed is flawed


def test_a_call_is_held_against_the_gold_call_that_it_agrees_with_best() -> None:
    example = _example("parallel", F, GoldCall("f", {"a": (7,), "b": ("z",)}))
    # six items; the first call is the second gold call, so a=7 is right and then a=1 is right too
    assert JUDGE.agreement(example, "[f(a=7,").value == pytest.approx(2 / 6)
    assert JUDGE.agreement(example, '[f(a=7, b="z"), f(a=1, b="x")]').value == 1
    assert JUDGE.agreement(example, '[f(a=7, b="z"), f(a=7,').value == pytest.approx((4 - 1) / 6)


@pytest.mark.parametrize(
    ("partial", "called"), [("Sorry", False), ("None of [", False), ("[f", True), ("f(", True), ("[f(a=1)]", True)]
)
def test_agreement_where_no_call_or_any_call_is_wanted(partial: str, called: bool) -> None:
    assert JUDGE.agreement(TEXT, partial) == Agreement(-1 if called else 1, flawed=called)
    assert JUDGE.agreement(ANY_CALL, partial) == Agreement(1 if called else -1, flawed=not called)
    assert JUDGE.agreement(TEXT, " ") == JUDGE.agreement(ANY_CALL, "") == Agreement(0, flawed=False)


@pytest.mark.parametrize(
    ("value", "unlike"),
    [
        ("10.0.0.1", "10001"),
        ("2*3-1", "231"),
        ("-5", "5"),
        ("1.5", "15"),
        ("/srv/data-1.csv", "srvdata1csv"),
        ("x^2", "x2"),
        ("AbC", "abc"),
    ],
)
@pytest.mark.parametrize("source", ["jsonl", "calls", "toolace", "xlam", "api_bank", "another"])
def test_the_benchmarks_leniency_is_the_benchmarks_alone(source: str, value: str, unlike: str) -> None:
    """Verdict, progress and mistake alike: by them the search rewards, and people are told what is wrong."""
    tools, gold = (_tool("g", ["x"], x="string"),), GoldCall("g", {"x": (value,)})
    right, wrong = f'[g(x="{value}")]', f'[g(x="{unlike}")]'
    of_others = _example("single_call", gold, source=source, tools=tools)
    assert JUDGE.verdict(of_others, right).correct
    assert JUDGE.agreement(of_others, right).value == 1
    assert mistake_of(of_others, right) is None
    assert not JUDGE.verdict(of_others, wrong).correct
    assert JUDGE.agreement(of_others, wrong).value == 0  # the name is right, and x wrong
    found = mistake_of(of_others, wrong)
    assert found is not None
    assert (found.type, found.parameter, found.got) == ("parameter_value", "x", f'"{unlike}"')
    of_benchmark = _example("simple_python", gold, tools=tools)
    assert JUDGE.verdict(of_benchmark, wrong).correct
    assert JUDGE.agreement(of_benchmark, wrong).value == 1
    assert mistake_of(of_benchmark, wrong) is None
