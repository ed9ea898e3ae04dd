"""The seven types of error in tool calls (Fig. 3, Appendix A.1), decided from the response's calls and the gold.

The first that holds, in this order:

- `code_syntax`      the response has begun a call, and does not decode
- `tools_count`      another number of calls than expected; plain text for a call, a call for plain text
- `tool_name`        a call to another function than the gold's
- `parameter_name`   a parameter that the function does not have, or as many unexpected ones as are missing
- `parameter_count`  parameters that are missing, or too many
- `parameter_value`  a value, or its type, that is not accepted
- `other`            wrong for another reason, e.g. the gold function is not among the tools

The paper says of Parameter Name only "unable to identify the parameter value from the user query"; we take it as its
title says. With several calls, those that agree with a gold call are set aside, and the first gold call left over is
compared with the call left over that is most like it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from itool_pipeline.calls.python_calls import PYTHON_CALLS
from itool_pipeline.calls.syntax import CallSyntax
from itool_pipeline.calls.tool_schema import parameter_schemas
from itool_pipeline.calls.types import Call, GoldCall, ToolCallSyntaxError
from itool_pipeline.core.types import Example, Expectation
from itool_pipeline.judges.mismatch import argument_agrees, needed_parameters, short_json, unmatched_calls
from itool_pipeline.judges.rules import MatchingRules, read_calls
from itool_pipeline.judges.verdicts import judge_response


class ErrorType(StrEnum):
    PARAMETER_VALUE = "parameter_value"
    PARAMETER_NAME = "parameter_name"
    PARAMETER_COUNT = "parameter_count"
    TOOLS_COUNT = "tools_count"
    TOOL_NAME = "tool_name"
    CODE_SYNTAX = "code_syntax"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Mistake:
    """Why a response is wrong.

    function, parameter  where; empty when the mistake concerns none
    expected, got        JSON, cut to 200 characters: values, names, or numbers of calls; for syntax, `got` is text
    """

    type: ErrorType
    function: str = ""
    parameter: str = ""
    expected: str = ""
    got: str = ""


def classify_mistake(
    rules: MatchingRules, example: Example, response: str, syntax: CallSyntax = PYTHON_CALLS
) -> Mistake | None:
    """The mistake of a complete response, or None when `judge_response` finds it right.

    Raises ValueError for gold calls in Java or JavaScript.
    """
    verdict = judge_response(rules, example, response, syntax)
    if verdict.correct:
        return None
    function = example.gold[0].name if example.gold else ""
    try:
        calls = read_calls(rules, example, response, syntax)
    except ToolCallSyntaxError:
        if syntax.has_begun_call(response):
            return Mistake(ErrorType.CODE_SYNTAX, function, got=short_json(response))
        calls = ()
    wanted = rules.count_calls(example) if example.gold else int(example.expects is Expectation.ANY_CALL)
    if len(calls) != wanted:
        return Mistake(ErrorType.TOOLS_COUNT, function, expected=str(wanted), got=str(len(calls)))
    call, gold = _left_over(rules, example, calls)
    return _compare(rules, example, call, gold) or Mistake(ErrorType.OTHER, gold.name, got=short_json(verdict.error))


def _left_over(rules: MatchingRules, example: Example, calls: Sequence[Call]) -> tuple[Call, GoldCall]:
    """The first gold call without an equal, and the call most like it among those without one."""
    if not rules.in_any_order(example):
        return calls[0], example.gold[0]
    unmatched, unused = unmatched_calls(rules, example, calls)
    gold = example.gold[unmatched[0]]
    return max(unused, key=lambda call: _likeness(rules, example, call, gold)), gold


def _likeness(rules: MatchingRules, example: Example, call: Call, gold: GoldCall) -> tuple[bool, int]:
    tool = rules.describe_function(example, gold)
    agrees = (
        tool is not None and argument_agrees(rules, tool, gold, name, value) for name, value in call.arguments.items()
    )
    return call.name == gold.name, sum(agrees)


def _compare(rules: MatchingRules, example: Example, call: Call, gold: GoldCall) -> Mistake | None:
    tool = rules.describe_function(example, gold)
    if tool is None:
        return None
    if call.name != gold.name:
        return Mistake(ErrorType.TOOL_NAME, gold.name, expected=short_json(gold.name), got=short_json(call.name))
    lacking = sorted(needed_parameters(rules, tool, gold) - set(call.arguments))
    unexpected = [n for n, value in call.arguments.items() if not rules.may_give(tool, gold, n, value)]
    unknown = [name for name in unexpected if name not in parameter_schemas(tool) and name not in gold.arguments]
    # As many unexpected ones as missing ones: what is missing was given under another name.
    if unknown or (unexpected and len(unexpected) == len(lacking)):
        return _of_names(ErrorType.PARAMETER_NAME, gold, (unknown or unexpected)[0], lacking, call)
    if lacking or unexpected:
        return _of_names(ErrorType.PARAMETER_COUNT, gold, (lacking or unexpected)[0], lacking, call)
    for name, value in call.arguments.items():
        if not rules.accepts_value(tool, gold, name, value):
            accepted = short_json(list(gold.arguments.get(name, ())))
            return Mistake(ErrorType.PARAMETER_VALUE, gold.name, name, expected=accepted, got=short_json(value))
    return None


def _of_names(kind: ErrorType, gold: GoldCall, parameter: str, lacking: Sequence[str], call: Call) -> Mistake:
    expected = list(lacking) or list(gold.arguments)
    return Mistake(kind, gold.name, parameter, expected=short_json(expected), got=short_json(list(call.arguments)))
