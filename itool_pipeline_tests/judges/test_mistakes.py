"""The seven error types on hand-made responses: one for each line of Appendix A.1, and their order."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from itool_pipeline.calls.types import GoldCall
from itool_pipeline.judges.mistakes import ErrorType, Mistake
from itool_pipeline_tests.judges.by_source import mistake_of
from itool_pipeline_tests.judges.test_verdicts import ANY_CALL, PARALLEL, SIMPLE, TEXT, F


@pytest.mark.parametrize(
    ("response", "kind", "parameter", "expected", "got"),
    [
        ('[f(a=2, b="x")]', "parameter_value", "a", "[1]", "2"),
        ('[f(a="1", b="x")]', "parameter_value", "a", "[1]", '"1"'),
        ('[f(a=1, bb="x")]', "parameter_name", "bb", '["b"]', '["a", "bb"]'),
        ('[f(a=1, b="x", d=1)]', "parameter_name", "d", '["a", "b", "c"]', '["a", "b", "d"]'),
        ("[f(a=1)]", "parameter_count", "b", '["b"]', '["a"]'),
        ("[f(1)]", "parameter_count", "a", '["a", "b"]', "[]"),
        ('[f(a=1, b="x"), f(a=1, b="x")]', "tools_count", "", "1", "2"),
        ("I cannot.", "tools_count", "", "1", "0"),
        ("[]", "tools_count", "", "1", "0"),
        ('[g(a=1, b="x")]', "tool_name", "", '"f"', '"g"'),
        ('[f(a=1, b="x"', "code_syntax", "", "", '"[f(a=1, b=\\"x\\""'),
        # the order: syntax, number of tools, name of the tool, names, number, values of parameters
        ("[h(a=), f(", "code_syntax", "", "", '"[h(a=), f("'),
        ("[h(), h()]", "tools_count", "", "1", "2"),
        ("[h(d=1)]", "tool_name", "", '"f"', '"h"'),
        ("[f(a=2, d=1)]", "parameter_name", "d", '["b"]', '["a", "d"]'),
        ("[f(a=2)]", "parameter_count", "b", '["b"]', '["a"]'),
    ],
)
def test_one_call(response: str, kind: str, parameter: str, expected: str, got: str) -> None:
    assert mistake_of(SIMPLE, response) == Mistake(ErrorType(kind), "f", parameter, expected, got)


def test_right_responses_have_no_mistake() -> None:
    assert mistake_of(SIMPLE, '[f(a=1, b="x")]') is None
    assert mistake_of(TEXT, "I cannot.") is None
    assert mistake_of(ANY_CALL, "[f()]") is None


def test_parameters_known_to_the_tool_but_not_wanted() -> None:
    bare = replace(SIMPLE, gold=(GoldCall("f", {"a": (1,), "b": ("x",)}),))
    found = mistake_of(bare, '[f(a=1, b="x", c=2.5)]')
    assert found is not None
    assert (found.type, found.parameter) == (ErrorType.PARAMETER_COUNT, "c")
    swapped = mistake_of(bare, "[f(a=1, c=2.5)]")
    assert swapped is not None
    assert (swapped.type, swapped.parameter, swapped.expected) == (ErrorType.PARAMETER_NAME, "c", '["b"]')


def test_of_several_calls_the_one_left_over_is_explained() -> None:
    found = mistake_of(PARALLEL, '[g(x="q"), f(a=1, b="x")]')
    assert found == Mistake(ErrorType.PARAMETER_VALUE, "g", "x", '["p"]', '"q"')
    found = mistake_of(PARALLEL, '[h(x="p"), f(a=1, b="x")]')
    assert found == Mistake(ErrorType.TOOL_NAME, "g", "", '"g"', '"h"')
    same = replace(PARALLEL, gold=(F, F))
    found = mistake_of(same, '[f(a=1, b="x"), f(a=1, b="no")]')
    assert found == Mistake(ErrorType.PARAMETER_VALUE, "f", "b", '["x", "y"]', '"no"')
    twice = replace(PARALLEL, gold=(F, GoldCall("f", {"a": (5,), "b": ("z",)})))
    found = mistake_of(twice, '[f(a=5, b="x"), f(a=1, b="x")]')
    assert found == Mistake(ErrorType.PARAMETER_VALUE, "f", "b", '["z"]', '"x"')


def test_of_several_calls_left_over_the_most_like_is_compared() -> None:
    """Both are wrong: f is held against the call to f, though the call to g stands first."""
    found = mistake_of(PARALLEL, '[g(x="q"), f(a=1, b="no")]')
    assert found == Mistake(ErrorType.PARAMETER_VALUE, "f", "b", '["x", "y"]', '"no"')


def test_calls_where_text_is_wanted_and_the_reverse() -> None:
    assert mistake_of(TEXT, "[f(a=1)]") == Mistake(ErrorType.TOOLS_COUNT, "", "", "0", "1")
    assert mistake_of(ANY_CALL, "I cannot.") == Mistake(ErrorType.TOOLS_COUNT, "", "", "1", "0")
    assert mistake_of(ANY_CALL, "[f(a=") == Mistake(ErrorType.CODE_SYNTAX, "", "", "", '"[f(a="')


def test_a_gold_function_without_a_description_is_another_error() -> None:
    lost = replace(PARALLEL, gold=(F, GoldCall("lost", {})))
    found = mistake_of(lost, '[f(a=1, b="x"), lost()]')
    assert found is not None
    assert (found.type, found.function) == (ErrorType.OTHER, "lost")


def test_long_values_are_cut() -> None:
    found = mistake_of(SIMPLE, f'[f(a=1, b="{"é" * 1000}")]')
    assert found is not None
    assert len(found.got) == 200
    assert found.got.startswith('"éé')
    assert json.loads(found.expected) == ["x", "y"]
