"""The verdict on a complete response: what the outcome O is at its end (Eq. 6)."""

from __future__ import annotations

from itool_pipeline.calls.python_calls import PYTHON_CALLS
from itool_pipeline.calls.syntax import CallSyntax
from itool_pipeline.calls.types import ToolCallSyntaxError
from itool_pipeline.core.judge import Verdict
from itool_pipeline.core.types import Example, Expectation
from itool_pipeline.judges.mismatch import describe_mismatch, find_mismatch, unmatched_calls
from itool_pipeline.judges.rules import MatchingRules, read_calls, require_python


def judge_response(rules: MatchingRules, example: Example, response: str, syntax: CallSyntax = PYTHON_CALLS) -> Verdict:
    """Whether a complete response is right by the rules of its source.

    - Where gold calls are expected, what does not decode is wrong, and so is another number of calls.
    - Where calls may come in any order, each gold call needs a call of its own.
    - Where any call or none is expected, all that counts is whether a call is decoded.

    Raises ValueError for gold calls in Java or JavaScript.
    """
    if example.expects is not Expectation.CALLS:
        return _judge_without_gold(rules, example, response, syntax)
    require_python(example)
    try:
        calls = read_calls(rules, example, response, syntax)
    except ToolCallSyntaxError as error:
        return Verdict(False, f"no list of calls: {error}")
    if len(calls) != rules.count_calls(example):
        return Verdict(False, f"{len(calls)} calls where {len(example.gold)} are expected")
    if not rules.in_any_order(example):
        found = find_mismatch(rules, example, calls[0], example.gold[0])
        return Verdict(True) if found is None else Verdict(False, describe_mismatch(found))
    unmatched, _ = unmatched_calls(rules, example, calls)
    if not unmatched:
        return Verdict(True)
    return Verdict(False, f"no call agrees with gold call {unmatched[0]} ({example.gold[unmatched[0]].name})")


def _judge_without_gold(rules: MatchingRules, example: Example, response: str, syntax: CallSyntax) -> Verdict:
    try:
        called = bool(read_calls(rules, example, response, syntax))
    except ToolCallSyntaxError:
        called = False
    if called == (example.expects is Expectation.ANY_CALL):
        return Verdict(True)
    return Verdict(False, "calls a tool where none fits" if called else "calls no tool where one fits")
